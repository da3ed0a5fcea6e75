"""The docs site: notebooks and run directories -> docs/, pages for the file system or to be published as they are.

nbdev turns the notebooks into pages (`proc_nbs`: hidden cells out, documentation of what is exported in).
`pages.adapt` turns these into what MyST-NB reads. Sphinx renders. Nothing is executed: figures and
numbers are those of the committed notebooks.
`make docs` runs this; `python site_builder/build.py FOLDER` renders into another folder.
"""

import base64
import copy
import re
import shutil
import sys
import tempfile
from importlib.metadata import files
from pathlib import Path

import nbformat
from gallery import PLACE, fill
from nbdev.serve import proc_nbs
from pages import NBS, PAGES, SECTIONS, adapt, relink, title_of
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer
from reference import imports_page, settings_page
from run_pages import committed_runs, write_runs
from sphinx.cmd.build import main as sphinx_build

HERE = Path(__file__).parent
ROOT = NBS.parent


def toctree(caption, pages):
    listed = "\n".join(pages)
    return f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{listed}\n```\n\n"


def glossary():
    "The words of README, a definition for each."
    cells = nbformat.read(NBS / "index.ipynb", 4).cells
    table = next(cell.source for cell in cells if cell.source.startswith("## Words"))
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", table, flags=re.M)[1:]
    told = "\n\n".join(f"{word}\n: {meaning}" for word, meaning in rows)
    return f"# Glossary\n\nEach word has one meaning, on these pages and in the code.\n\n{told}\n"


def write_sources(folder):
    "The modules, a page each, whose lines can be linked to."
    for module in (ROOT / "painn_nb").glob("[a-z]*.py"):
        title, scrolls = f"painn_nb/{module.name}", "overflow-x: auto"
        style = HtmlFormatter(full=True, linenos="inline", lineanchors="L", title=title, prestyles=scrolls)
        (folder / f"{module.stem}.html").write_text(highlight(module.read_text(), PythonLexer(), style))


def borrowed(home, pages):
    "The home page with figures of other pages: `<!-- figure: 21_law moving -->` stands for the cell with this tag."
    for k, cell in enumerate(home.cells):
        if asked := re.fullmatch(r"<!-- figure: (\w+) (\w+) -->", cell.source.strip()):
            found = next(c for c in pages[asked[1]].cells if asked[2] in c.metadata.get("tags", ()))
            home.cells[k] = copy.deepcopy(found)
            home.cells[k].metadata.tags = ["remove-input"]
    return home


def first_picture(html):
    "The PNG that stands in a piece of HTML."
    return base64.b64decode(re.search(r'src="data:image/png;base64,([^"]+)"', html)[1])


def prepare(source):
    "Write everything that Sphinx reads into a folder."
    folders = ("story", "howto", "reference", "benchmarks", "runs", "static", "extra/source")
    for folder in folders: (source / folder).mkdir(parents=True)
    for name in ("conf.py", "favicon.svg"): shutil.copy(HERE / name, source)
    shutil.copytree(HERE / "templates", source / "templates")
    for name in ("site.css", "sort.js"): shutil.copy(HERE / name, source / "static")
    mathjax = next(f for f in files("sphinx-mathjax-offline") if f.name == "tex-svg-full.js")
    shutil.copy(mathjax.locate(), source / "static")
    (source / "extra" / ".nojekyll").touch()
    write_sources(source / "extra" / "source")

    processed = proc_nbs(force=True)  # of all, since what one shows can depend on another
    read = {notebook: nbformat.read(processed / f"{notebook}.ipynb", 4) for notebook in PAGES}
    read["index"] = borrowed(read["index"], read)
    moving = next(output.data for cell in read["index"].cells for output in cell.get("outputs", ())
                  if "painn-law" in output.get("data", {}).get("text/html", ""))
    (source / "static" / "explosion.png").write_bytes(first_picture(moving["text/html"]))  # README shows it
    for notebook, page in PAGES.items():
        nbformat.write(adapt(read[notebook], page), source / f"{page[1:]}.ipynb")
    (source / "reference" / "settings.md").write_text(settings_page())
    (source / "reference" / "glossary.md").write_text(glossary())
    of_modules = {page.rpartition("/")[2]: page for page in PAGES.values() if page.startswith("/reference")}
    (source / "reference" / "imports.md").write_text(relink(imports_page(of_modules)))
    said = "A figure leads to its page, and to the code that draws it."
    (source / "gallery.md").write_text(f"# Gallery\n\n{said}\n\n{PLACE}\n")
    runs = write_runs(source, committed_runs())

    home = nbformat.read(source / "index.ipynb", 4)
    trees = {caption: [PAGES[n][1:] for n in notebooks] for caption, (_, notebooks) in SECTIONS.items()}
    trees["The story"].append("gallery")
    trees["Reference"][:0] = ["reference/imports", "reference/settings", "reference/glossary"]
    runs_tree = toctree("The runs", ["runs/index", "The run log <runs/log>", *(f"runs/{name}" for name in runs)])
    navigation = [toctree(caption, pages) for caption, pages in trees.items()]
    navigation.insert(1, runs_tree)  # after the story
    home.cells.append(nbformat.v4.new_markdown_cell("".join(navigation)))
    home.cells[-1].id = "toctree"
    nbformat.write(home, source / "index.ipynb")


def build(out):
    "Render the site into a folder, in place of what is there; warnings are errors."
    with tempfile.TemporaryDirectory() as folder:
        source, made = Path(folder) / "source", Path(folder) / "html"
        source.mkdir()
        prepare(source)
        options = ["-q", "-W", "--keep-going", "-b", "html", "-d", f"{folder}/doctrees"]
        if sphinx_build([*options, str(source), str(made)]): sys.exit("the site was not built, see above")
        fill(made, {f"{PAGES[n][1:]}.html": title_of(n) for n in SECTIONS["The story"][1]})
        for unwanted in (".buildinfo", "objects.inv"): (made / unwanted).unlink(missing_ok=True)
        (made / "_sources").rmdir()  # empty, and git keeps no empty folder
        shutil.rmtree(out, ignore_errors=True)
        shutil.copytree(made, out)


if __name__ == "__main__": build(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs")
