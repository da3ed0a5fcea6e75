"How Sphinx renders the pages that build.py has prepared."

project = html_title = "painn_nb"
extensions = ["myst_nb"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("sort.js", {"defer": "defer"})]
html_favicon = "favicon.svg"
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

nb_execution_mode = "off"  # pages show what the committed notebooks hold
nb_output_stderr = "remove"
nb_code_prompt_show = nb_code_prompt_hide = "imports"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4
mathjax_path = "tex-svg-full.js"  # shipped, so that nothing is fetched when reading
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]  # documentation of a function starts at the third level

