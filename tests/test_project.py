"""The notebooks, what is exported from them, and the README stay one thing."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import mutants
import nbformat
import pytest
from lab import tracked

import painn_nb

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def copy(root, tmp_path_factory):
    "The project's files as git has them, in a place where they may be changed."
    folder = tmp_path_factory.mktemp("copy")
    for name in tracked("--cached", "--others", "--exclude-standard"):
        if (root / name).exists() and not name.startswith("runs/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    return folder


@pytest.mark.parametrize("command", ["nbdev_clean", "nbdev_export"])
def test_cleaning_and_exporting_change_nothing(root, copy, command):
    subprocess.run([BIN / command], cwd=copy, check=True, capture_output=True)
    for kind in ("nbs/*.ipynb", "painn_nb/*.py"):
        assert {p.name for p in root.glob(kind)} == {p.name for p in copy.glob(kind)}
        for path in root.glob(kind):
            same = path.read_bytes() == (copy / path.relative_to(root)).read_bytes()
            assert same, f"{path.name}: run {command} and commit"


def test_what_make_mutants_changes_is_the_same_in_notebook_and_package(root, tmp_path):
    copy, modules = mutants.Copy(root, tmp_path, timeout=60), sorted(p.stem for p in root.glob("painn_nb/[!_]*.py"))
    drawn = [mutant for seed, module in enumerate(modules) for mutant in mutants.draw(root, module, 1, seed)]
    for m in drawn: copy.write(m.files)
    subprocess.run([BIN / "nbdev_export"], cwd=copy.folder, check=True)
    for m in drawn: assert all((copy.folder / name).read_text() == text for name, text in m.files.items()), m.shown


def test_readme_is_the_index_notebook(root):
    made = subprocess.run(["make", "-s", "readme-text"], cwd=root, capture_output=True, text=True, check=True)
    assert (root / "README.md").read_text() == made.stdout, "run `make readme` and commit"


def test_readme_shows_pictures_that_are_there_and_the_citation_names_this_version(root):
    shown = re.findall(r"!\[.*?\]\((.*?)\)", (root / "README.md").read_text())
    assert shown and all((root / name).stat().st_size for name in shown)
    assert f"version: {painn_nb.__version__}\n" in (root / "CITATION.cff").read_text()


def test_every_notebook_opens_with_a_title_and_one_line(root):
    for path in root.glob("nbs/*.ipynb"):
        first = next(c for c in nbformat.read(path, 4).cells if c.cell_type != "raw")  # raw: front matter
        assert first.cell_type == "markdown" and re.fullmatch(r"# .+\n\n> .+", first.source), path.name


def test_notebooks_keep_no_errors_and_no_paths_of_a_machine(root):
    for path in root.glob("nbs/*.ipynb"):
        outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
        assert not any(output.output_type == "error" or "site-packages" in str(output) for output in outputs), path.name


def test_no_test_stands_where_its_failure_is_swallowed(root):
    "What a cell under `%%capture` raises, nobody hears."
    for path in root.glob("nbs/*.ipynb"):
        captured = [c.source for c in nbformat.read(path, 4).cells if "%%capture" in c.source]
        assert not any(re.search(r"\b(test_\w+\(|assert\b)", source) for source in captured), path.name


def test_panels_are_kept_as_stills(root):
    "A panel without its kernel is an error message; `make notebooks` leaves a picture in its place."
    for path in root.glob("nbs/*.ipynb"):
        nb = nbformat.read(path, 4)
        assert "widgets" not in nb.metadata, path.name
        shown = {kind for cell in nb.cells for output in cell.get("outputs", []) for kind in output.get("data", {})}
        assert "application/vnd.jupyter.widget-view+json" not in shown, path.name


def test_the_committed_runs_hold_no_large_files(root):
    assert all((root / name).stat().st_size < 1_000_000 for name in tracked("runs/painn"))
