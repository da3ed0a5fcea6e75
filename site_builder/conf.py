"How Sphinx renders the pages that build.py has prepared."

import os

from painn_nb import __version__

project = "painn_nb"
html_title = f"painn_nb {__version__}"
extensions = ["myst_nb", "sphinx_copybutton", "sphinx_design"]
html_theme = "furo"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_js_files = [("sort.js", {"defer": "defer"})]
templates_path = ["templates"]
html_baseurl = os.environ.get("DOCS_URL", "")  # where it is published, for the cards of links
html_favicon = "favicon.svg"
html_extra_path = ["extra"]
html_copy_source = False
html_show_sphinx = False
html_show_copyright = False

nb_execution_mode = "off"  # pages show what the committed notebooks hold
nb_output_stderr = "remove"
nb_code_prompt_show = nb_code_prompt_hide = "code"
nb_merge_streams = True
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "attrs_block", "colon_fence", "deflist"]
myst_heading_anchors = 4
mathjax_path = "tex-svg-full.js"  # shipped, so that nothing is fetched when reading
copybutton_selector = "div:not(.output) > div.highlight > pre"  # code, and not what it prints
suppress_warnings = ["mystnb.unknown_mime_type", "myst.header"]  # documentation of a function starts at the third level
