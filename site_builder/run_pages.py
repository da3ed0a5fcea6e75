"Committed runs as pages: what a run says of itself is data, and is shown letter by letter."

import base64
import re
import subprocess
import sys
from itertools import pairwise

import nbformat
from pages import adapt, relink

from painn_nb.recipes import project_root
from painn_nb.runs import DAMAGED, Run, log_head, settings_apart

ROOT = project_root()


def committed_runs():
    "The runs that git tracks, oldest first; a reader's own are no part of the site."
    command = ["git", "ls-files", "runs/painn/*/report.md"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [Run((ROOT / line).parent) for line in sorted(listed.splitlines())]


def escaped(text):
    "What a run says of itself, as Markdown that shows it letter by letter: it is data, and could be anything."
    return re.sub(r"([!-/:-@\[-`{-~])", r"\\\1", " ".join(text.splitlines()))


def escaped_report(text):
    "A report in which headings, lists and code stay what they are."
    def line(text):
        start, rest = re.fullmatch(r"(## |(?:  )?- |)(.*)", text.rstrip()).groups()
        words = re.split(r"(`[^`]+`)", rest.strip())
        return start + "".join(word if k % 2 else escaped(word) for k, word in enumerate(words))
    return "\n".join(map(line, text.splitlines()))


def pictures(run):
    "The figures in the executed notebook of a run, by cell; nothing else in it is shown."
    def is_png(output):
        return base64.b64decode(output.get("data", {}).get("image/png", "")).startswith(b"\x89PNG")
    def picture(output): return nbformat.v4.new_output("display_data", {"image/png": output["data"]["image/png"]})
    try:
        cells = nbformat.read(run.path / "run.ipynb", 4).cells
        return {cell.id: [*map(picture, filter(is_png, cell.outputs))] for cell in cells if cell.cell_type == "code"}
    except Exception: return {}  # missing, or damaged in one of many ways


def settings_table(what, settings):
    "Settings of a run as a table, under what is said of them."
    rows = "\n".join(f"| {escaped(key)} | {escaped(f'{value}')} |" for key, value in settings.items())
    return f"| {escaped(what)} | value |\n|---|---|\n{rows}" if rows else f"Nothing {escaped(what)}."


def run_page(run):
    "The notebook of a run without its form and its code: our words, its figures, and what it says of itself."
    form, shown = nbformat.read(ROOT / "nbs" / "run.ipynb", 4), pictures(run)
    apart, recipe = settings_apart(run.about), run.about.get("run", "the recipe")
    differs = [settings_table(f"differs from {recipe}", apart["changed"]),
               settings_table(f"is set by {recipe}", apart["recipe"])]
    told = {
        "## Outcome": escaped(run.verdict), "## What differs": "\n\n".join(differs),
        "## Report": escaped_report(run.report),
        "## All other settings": "<details>\n<summary>Show them</summary>\n\n"
                                 f"{settings_table('setting', apart['rest'])}\n\n</details>",
    }
    start = next(k for k, cell in enumerate(form.cells) if cell.source.startswith("## Outcome"))
    cells = [nbformat.v4.new_markdown_cell(f"# {escaped(run.name)}\n\n`{run.address}`")]
    for cell, below in pairwise(form.cells[start:]):  # the last one tells where the report is
        if cell.cell_type == "markdown":
            heading = cell.source.partition("\n")[0]
            if heading not in told and below.cell_type == "code" and not shown.get(below.id): continue  # no figure
            text = f"\n\n{told[heading]}" if heading in told else ""
            cells.append(nbformat.v4.new_markdown_cell(cell.source + text))
        elif shown.get(cell.id): cells.append(nbformat.v4.new_code_cell(cell.source, outputs=shown[cell.id]))
    page = adapt(nbformat.v4.new_notebook(cells=cells), f"/runs/{run.path.name}")
    for cell in page.cells:
        if cell.cell_type == "code": cell.metadata["tags"] = ["remove-input"]
    return page


def write_runs(source, found):
    """A page per run, an overview of all, and the run log; the names of the pages, newest last.

    A run that cannot be read, or whose folder has a name of other characters than ours, is left out and named."""
    pages, rows, sections = {}, "", ""
    for run in found:
        name = run.path.name
        try:
            if not re.fullmatch(r"[\w.-]+__[\w.-]+", name): raise ValueError("a name has letters, digits, _, - and .")
            page = run_page(run)
            row = f"| [{escaped(name)}]({name}.ipynb) | {escaped(run.outcome)} | {escaped(run.verdict)} |\n"
            sections += f"\n{escaped_report(run.report)}\n\n---\n"
        except DAMAGED as e:
            print(f"{run.address} is left out: {e}", file=sys.stderr)
            continue
        pages[name], rows = page, rows + row
    head = "# The runs\n\nOne page per committed run, and the [run log](log.md).\n\n"
    head += "| run | outcome | in a sentence |\n|---|---|---|\n"
    for name, page in pages.items(): nbformat.write(page, source / "runs" / f"{name}.ipynb")
    (source / "runs" / "index.md").write_text(head + rows)
    (source / "runs" / "log.md").write_text(relink(log_head()) + sections.rstrip("-\n") + "\n")
    return list(pages)
