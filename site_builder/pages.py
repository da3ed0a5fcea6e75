"Notebooks as pages: which there are, in which order, and how one becomes what MyST-NB reads."

import base64
import io
import re
from functools import cache

import nbformat
from PIL import Image
from reference import documentation, public

from painn_nb.recipes import HELP, project_root

NBS = project_root() / "nbs"
HOST = "https://example.org/painn_nb"  # doc_host and git_url of settings.ini, made relative below
SECTIONS = {  # caption in the navigation -> folder and notebooks, in reading order
    "The story": ("story", sorted(p.stem for p in NBS.glob("2*.ipynb"))),
    "How to": ("howto", ["tour", "explore", "howto", "howto_lightning", "howto_schnetpack", "howto_mace", "run"]),
    "Reference": ("reference", sorted(p.stem for p in NBS.glob("[01]*.ipynb"))),
    "Benchmarks": ("benchmarks", ["30_benchmarks"]),
}


def page_name(notebook): return re.sub(r"^\d+_", "", notebook)


PAGES = {"index": "/index"} | {
    notebook: f"/{folder}/{page_name(notebook)}" for folder, notebooks in SECTIONS.values() for notebook in notebooks
}
SETTINGS = list(HELP)


@cache
def title_of(notebook):
    "The first heading of a notebook."
    cells = nbformat.read(NBS / f"{notebook}.ipynb", 4).cells
    return next(cell.source for cell in cells if cell.source.startswith("# ")).partition("\n")[0].removeprefix("# ")


def relink(text):
    "Links of nbdev, names of notebooks and names of settings become links between pages; code is left alone."
    by_output = {page_name(n): page for n, page in PAGES.items()}
    def documented(m):
        module, name = m[2], (m[3] or "").partition(".")[0]  # a method is described with its class
        if module not in by_output or name and name not in public(module): return m[1]  # of that name, and private
        return f"[{m[1]}]({by_output[module]}.ipynb{'#' if name else ''}{name.lower()})"
    def by_hand(m): return f"{PAGES[m[1]]}.ipynb" if m[1] in PAGES else m[0]
    def notebook(m): return f"[{title_of(m[2])}]({PAGES[m[2]]}.ipynb)" if m[2] in PAGES else m[0]
    parts = re.split(r"(```.*?```)", text, flags=re.S)
    for k in range(0, len(parts), 2):
        parts[k] = re.sub(rf"\[([^\]]+)\]\({HOST}/(\w+)\.html(?:#([\w.]+))?\)", documented, parts[k])
        parts[k] = re.sub(r"`(nbs/(\w+)\.ipynb)`(?!\])", notebook, parts[k])
        parts[k] = re.sub(r"(?<=\]\()(\w+)\.ipynb(?=\))", by_hand, parts[k])
        parts[k] = re.sub(rf"(?<!\[)`({'|'.join(SETTINGS)})`(?!\])", r"[`\1`](/reference/settings.md#\1)", parts[k])
    return "".join(parts)


TAGS = {
    "#| echo: false": "remove-input", "#| output: false": "remove-output",
    "#| include: false": "remove-cell", "#| code-fold: true": "hide-input", "#| fold-output: true": "hide-output",
}


def flags(source, folder):
    "Quarto's directives of a code cell as MyST-NB's tags, its caption, and the code without them."
    lines = source.splitlines()
    code = "\n".join(line for line in lines if not line.startswith("#|"))
    tags = [TAGS[line] for line in lines if line in TAGS]
    caption = next((line.removeprefix("#| fig-cap:").strip() for line in lines if line.startswith("#| fig-cap:")), "")
    imports = all(line.startswith(("import ", "from ", " ", ")")) for line in code.splitlines() if line)
    if folder in ("story", "benchmarks") or imports and folder == "reference": tags.append("hide-input")
    return tags, caption, code


def sentence(markdown):
    "The words of a paragraph, for readers who do not see the figure below it."
    words = re.sub(r"[`*_$#]|\]\([^)]*\)|\[", "", markdown.strip().split("\n\n")[-1])
    return " ".join(words.split())[:300]


def smaller(png):
    "A figure in base64 with a palette of 256 colours, which takes less than half; as it is where that saves nothing."
    made = io.BytesIO()
    Image.open(io.BytesIO(base64.b64decode(png))).convert("RGBA").quantize(256).save(made, "PNG", optimize=True)
    return min(base64.b64encode(made.getvalue()).decode(), png.replace("\n", ""), key=len)


def merged(cells):
    "Folded code that shows nothing is put to the folded code after it, so that a story has one fold and not five."
    out = []
    for cell in cells:
        last = out[-1] if out else None
        both = [c for c in (last, cell) if c and c.cell_type == "code" and "hide-input" in c.metadata.get("tags", ())]
        if len(both) == 2 and not last.outputs:
            cell.source = f"{last.source}\n\n{cell.source}"
            out.pop()
        out.append(cell)
    return out


def adapt(nb, page):
    "A notebook as MyST-NB reads it, for a page of this name. Figures that have a caption are numbered."
    folder, label = page.split("/")[1], page[1:].replace("/", "-")
    cells, said, front, figures = [], "", {}, 0
    left_out = {"readme"} if folder == "index" else {"readme", "home"}
    for cell in nb.cells:
        if left_out & {*cell.metadata.get("tags", ())}: continue
        if cell.cell_type == "raw":
            front = dict(re.findall(r"^(\w+): (.*(?:\n  .*)*)", cell.source, flags=re.M))
            continue
        if cell.cell_type == "markdown":
            text = cell.source
            if "AUTOGENERATED" in text or not text.strip(): continue
            said = text
            cells.append(nbformat.v4.new_markdown_cell(relink(text)))
            continue
        tags, caption, source = flags(cell.source, folder)
        tags += [tag for tag in cell.metadata.get("tags", ()) if tag in TAGS.values()]
        shown = next((o["data"]["text/markdown"] for o in cell.outputs if "text/markdown" in o.get("data", {})), None)
        if "show_doc(" in source:
            if shown: cells.append(nbformat.v4.new_markdown_cell(relink(documentation(shown))))
            continue
        code = nbformat.v4.new_code_cell(source, outputs=cell.outputs)
        for output in code.outputs:
            data = output.get("data", {})
            if "image/png" in data: data["image/png"] = smaller(data["image/png"])
            if "text/markdown" in data: data["text/markdown"] = relink(data["text/markdown"])
        of_cell = {"image": {"alt": caption or sentence(said) or "figure"}}
        if caption:
            figures += 1
            caption = f"**Figure {figures}.** {caption}"
            of_cell["figure"] = {"caption": caption, "name": f"{label}-figure-{figures}"}
        code.metadata = {"tags": tags, "mystnb": of_cell}
        if source.strip() or code.outputs: cells.append(code)
    def plain(key): return " ".join(front.get(key, "").strip().strip("'\"").replace("''", "'").split())
    description = plain("description")
    if front:
        head = f"# {plain('title')}" + (f"\n\n*{relink(description)}*" if description else "")
        cells.insert(0, nbformat.v4.new_markdown_cell(head))
    cells = merged(cells)
    for k, cell in enumerate(cells): cell.id = f"c{k}"
    kernel = {"name": "python3", "display_name": "Python 3"}
    metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    if description: metadata["myst"] = {"html_meta": {"description": sentence(description)}}
    return nbformat.v4.new_notebook(cells=cells, metadata=metadata)
