"""The docs site: as fresh as its sources, whole, and readable in a browser without a network."""

import filecmp
import functools
import http.server
import json
import re
import shutil
import subprocess
import sys
import threading
from html.parser import HTMLParser
from urllib.parse import unquote, urlsplit

import nbformat
import numpy as np
import pytest
from lab import tracked

from painn_nb.moving import UPDATES, settings_of
from painn_nb.recipes import resolve
from painn_nb.recursion import at_speed, constants, first_blown_layer, forward_passes, predict
from painn_nb.stabilizer import Remedies


@pytest.fixture(scope="module")
def docs(root): return root / "docs"


@pytest.fixture(scope="module")
def pages(docs): return sorted(p.relative_to(docs).as_posix() for p in docs.rglob("*.html") if "source" not in p.parts)


def differences(cmp):
    yield from cmp.left_only + cmp.right_only + cmp.diff_files
    for sub in cmp.subdirs.values(): yield from differences(sub)


@pytest.mark.slow
def test_the_site_is_what_its_sources_render_to(root, docs, tmp_path):
    subprocess.run([sys.executable, "site_builder/build.py", str(tmp_path / "docs")], cwd=root, check=True, timeout=600)
    stale = list(differences(filecmp.dircmp(docs, tmp_path / "docs")))
    assert not stale, "docs/ is older than its notebooks; run `make docs`"


HOSTILE = """<script>alert('hostile')</script>
```{include} /etc/passwd
```
{raw}`html` <img src=x onerror=hostile()> [link](javascript:hostile()) $x$ %s
"""
RENDER = """
import shutil, sys; sys.path.insert(0, "site_builder")
from pathlib import Path
import build, run_pages
from painn_nb.runs import Run
runs, source, docs = map(Path, sys.argv[1:])
for name in ("runs", "static", "extra"): (source / name).mkdir(parents=True)
for name in ("conf.py", "favicon.svg"): shutil.copy(f"site_builder/{name}", source)
shutil.copytree("site_builder/templates", source / "templates")
(source / "index.md").write_text("# Home")
run_pages.write_runs(source, [Run(path) for path in sorted(runs.iterdir())])
sys.exit(build.sphinx_build(["-q", "-b", "html", str(source), str(docs)]))
"""


@pytest.fixture(scope="module")
def of_hostile_runs(root, tmp_path_factory):
    "The pages of a good run, one with hostile words everywhere, damaged ones, and some with hostile names."
    folder = tmp_path_factory.mktemp("hostile")
    good = sorted((root / "runs" / "painn").glob("*__R0_diag"))[0]
    good, hostile, damaged, named = (shutil.copytree(good, folder / "painn" / name) for name in (
        "1__good", "2__hostile", "3__damaged", "4__](javascript:hostile())<b>"))
    for name in ("index", "log"): shutil.copytree(good, folder / "painn" / name)
    (shutil.copytree(good, folder / "painn" / "5__pictures") / "run.ipynb").write_text('{"cells": 3, "metadata": [}')
    about = json.loads((hostile / "config.json").read_text())
    about = {key: HOSTILE if isinstance(value, str) else value for key, value in about.items()}
    (hostile / "config.json").write_text(json.dumps(about | {HOSTILE: HOSTILE}))
    report = (hostile / "report.md").read_text()
    (hostile / "report.md").write_text(report + "".join(f"{start}{HOSTILE}" for start in ("", "- ", "## ", "`")))
    summary = json.loads((hostile / "summary.json").read_text()) | {"outcome": HOSTILE}
    (hostile / "summary.json").write_text(json.dumps(summary))
    nb = nbformat.read(hostile / "run.ipynb", 4)
    for cell in nb.cells:
        if cell.cell_type != "code": cell.source += f"\n\n{HOSTILE}"
        else: cell.outputs = [*cell.get("outputs", []), nbformat.v4.new_output(
            "display_data", {"text/html": HOSTILE, "text/markdown": HOSTILE, "image/svg+xml": HOSTILE})]
    nb.cells.append(nbformat.v4.new_markdown_cell(HOSTILE))
    nbformat.write(nb, hostile / "run.ipynb")
    (damaged / "config.json").write_text("{")
    command = [sys.executable, "-c", RENDER, *(folder / name for name in ("painn", "source", "docs"))]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return folder / "docs", done.stderr


def test_what_runs_contain_is_shown_letter_by_letter(of_hostile_runs):
    docs, _ = of_hostile_runs
    passwd = open("/etc/passwd").readline().strip()
    for name in ("2__hostile", "log", "index"):
        page = (docs / "runs" / f"{name}.html").read_text()
        parsed = Links(page)
        assert "&lt;script&gt;alert(" in page and "<script>alert" not in page and passwd not in page
        assert "<img src=x" not in page and not [link for link in parsed.found if link.startswith("javascript")]
    assert (docs / "runs" / "2__hostile.html").read_text().count("<img") == 3  # its own figures are there


def test_a_run_page_has_the_outcome_first_and_all_settings_last(of_hostile_runs):
    page = (of_hostile_runs[0] / "runs" / "1__good.html").read_text().partition("<article")[2]
    order = ["It exploded at step 52: the loss is inf", "<img", "Nothing differs from R0", "is set by R0",
             "debug_layer_stats_every", "Per-layer highlights", "<details", "lr_base</", "</details>"]
    assert [page.find(words) for words in order] == sorted(page.index(words) for words in order)
    assert "Where it grew" in page and "What the limits held" not in page  # R0 has none


def test_a_damaged_run_is_left_out_and_named(of_hostile_runs):
    docs, said = of_hostile_runs
    assert "3__damaged is left out: " in said and "a name has letters, digits, _, - and ." in said
    assert [page.stem for page in sorted((docs / "runs").glob("*__*.html"))] == ["1__good", "2__hostile", "5__pictures"]


def test_every_committed_run_has_its_page(root, docs):
    runs = {name.split("/")[2] for name in tracked("runs/painn")}
    assert runs and all((docs / "runs" / f"{name}.html").exists() for name in runs)


def test_it_is_small(docs):
    assert sum(p.stat().st_size for p in docs.rglob("*") if p.is_file()) < 16e6


class Links(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.found, self.ids = [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[k] for k in ("id", "name") if k in attrs}
        self.found += [attrs[k] for k in ("href", "src") if attrs.get(k)]


def test_no_link_is_broken(docs):
    parsed = {p.resolve(): Links(p.read_text()) for p in docs.rglob("*.html")}
    broken = []
    for page, links in parsed.items():
        for link in links.found:
            url = urlsplit(link)
            if url.scheme or url.netloc: continue
            target = (page.parent / unquote(url.path)).resolve() if url.path else page
            if target.is_dir(): target /= "index.html"
            lost = url.fragment and target in parsed and unquote(url.fragment) not in parsed[target].ids
            if lost or not target.exists(): broken.append((page.name, link))
    assert not broken


@pytest.fixture(scope="module")
def server(docs):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args): pass
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=docs)) as s:
        threading.Thread(target=s.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{s.server_port}"
        s.shutdown()


@pytest.fixture
def tab(browser):
    page = browser.new_page()
    page.errors, page.asked = [], []
    page.on("console", lambda m: page.errors.append(f"{m.text} {m.location}") if m.type == "error" else None)
    page.on("pageerror", lambda e: page.errors.append(str(e)))
    page.on("request", lambda r: page.asked.append(r.url))
    yield page
    page.close()


BLANK = """() => [...document.querySelectorAll('img')].filter(i => {
    if (!i.naturalWidth) return true;
    const c = document.createElement('canvas'); c.width = c.height = 64;
    const g = c.getContext('2d'); g.drawImage(i, 0, 0, 64, 64);
    return new Set(new Uint32Array(g.getImageData(0, 0, 64, 64).data.buffer)).size < 2;
}).map(i => i.src.slice(0, 100))"""


def test_every_page_reads_well_in_a_browser(tab, server, pages):
    assert len(pages) > 20
    for name in pages:
        tab.goto(f"{server}/{name}", wait_until="load")
        if name != "search.html": assert tab.locator("h1").first.inner_text().strip(), name
        assert not tab.evaluate(BLANK), name
        assert tab.evaluate("[...document.querySelectorAll('article img')].every(i => i.alt.length > 10)"), name
    assert not tab.errors and all(url.startswith((server, "data:", "blob:")) for url in tab.asked)


def test_the_home_page_opens_from_the_file_system(tab, docs):
    tab.goto((docs / "index.html").as_uri())
    assert tab.locator(".painn-law polyline").count() == 4
    assert not tab.evaluate("[...document.images].filter(i => !i.naturalWidth).length")
    assert not tab.errors and all(url.startswith(("file:", "data:")) for url in tab.asked)


def test_formulas_are_rendered_without_a_network(tab, server):
    tab.goto(f"{server}/story/law.html")
    tab.wait_for_selector("mjx-container svg")
    assert not tab.locator("mjx-merror").count()


def test_search_finds_a_setting_and_its_definition(tab, server):
    tab.goto(f"{server}/search.html?q=clip_mu_norm")
    link = tab.locator("#search-results li a", has_text="Settings").first
    link.wait_for()
    link.click()
    tab.wait_for_load_state()
    assert "reference/settings.html" in tab.url and tab.locator("#clip-mu-norm").is_visible()


def test_a_setting_in_prose_leads_to_its_definition(tab, server):
    tab.goto(f"{server}/runs/log.html")
    tab.locator("article a", has_text="clip_mu_norm").first.click()
    tab.wait_for_load_state()
    assert tab.url.endswith("reference/settings.html#clip-mu-norm")


def test_a_setting_that_can_be_off_says_so_once(docs):
    page = (docs / "reference" / "settings.html").read_text()
    for name in ("clip_mu_norm", "clip_gradients_norm", "lr_peak"):
        [said] = re.findall(rf"<h3>{name}<.*?It must be (.*?)\. Default", page, re.DOTALL)
        assert said == "greater than 0, or off"


def test_a_table_is_sorted_by_a_click_on_its_head(tab, server):
    tab.goto(f"{server}/benchmarks/benchmarks.html")
    table = tab.locator("table.dataframe", has=tab.locator("th[aria-sort], th[tabindex]")).first
    def column(): return [float(x) for x in table.locator("tbody tr td:nth-of-type(1)").all_inner_texts() if x]
    head = table.locator("thead tr").first.locator("th").nth(1)
    head.click()
    assert column() == sorted(column()) and len(column()) > 3
    head.press("Enter")
    assert column() == sorted(column(), reverse=True)


LINES = """() => Object.fromEntries([...document.querySelectorAll('.painn-law polyline')].map(
    line => [line.dataset.name, line.getAttribute('points').split(' ').map(p => p.split(',').map(Number))]))"""


def values(page):
    "What the lines of the moving figure show, by name: the axis is read from its labels."
    ticks = page.evaluate("""() => [...document.querySelectorAll('.painn-law .picture text')].filter(
        t => t.getAttribute('text-anchor') === 'end' && /^1(e\\d+)?$/.test(t.textContent)).map(
        t => [Math.log10(Number(t.textContent)), Number(t.getAttribute('y')) - 4])""")
    (low, at_low), *_, (high, at_high) = ticks
    def decade(y): return low + (high - low) * (y - at_low) / (at_high - at_low)
    return {name: [decade(y) for _, y in points] for name, points in page.evaluate(LINES).items()}


def close(shown, told):
    "Whether a line shows these numbers, in decades, up to the first that leaves the paper."
    pairs = [(a, np.log10(b)) for a, b in zip(shown, told) if b <= 1e20]
    return len(pairs) > 1 and max(abs(a - b) for a, b in pairs) < 0.03


def where(q):
    "What the figure says of a line."
    layer = first_blown_layer(q)
    if layer is None: return "stays below 1e6"
    return f"{'passes 1e6' if np.isfinite(q[layer]) else 'is lost'} after layer {layer}"


def turn(page, name, value):
    "Move a slider by its keys until it reads out a value."
    slider = page.get_by_role("slider", name=name, exact=True)
    slider.press("Home")
    while slider.get_attribute("aria-valuetext") != value: slider.press("ArrowRight")


def test_the_figure_of_the_home_page_moves_and_shows_what_the_package_measures(tab, docs):
    tab.goto((docs / "index.html").as_uri())
    for speed, layers in (("4.0", "12"), ("9.0", "4")):
        turn(tab, "fastest particle", speed)
        turn(tab, "layers", layers)
        shown = values(tab)
        assert list(shown) == ["R0", "R1", "R2", "R3"]
        for recipe, line in shown.items():
            told = forward_passes([float(speed)], Remedies(**resolve(recipe).active()), int(layers))["q"][:, 0]
            assert close(line, told), (recipe, line, told)
            assert f"{recipe} {where(told)}" in tab.locator(".painn-law [role=status]").inner_text()
    assert not tab.errors and all(url.startswith(("file:", "data:")) for url in tab.asked)


@pytest.mark.parametrize("update, groups", [
    ("1", ["clamp of q"]), ("1/2", ["limits on messages", "clip of mu"]),
    ("1/10", ["norms before the blocks", "tanh in the mixing"]), ("1", ["clamp of q", "clip of mu"]),
])
def test_remedies_are_chosen_by_keys_and_the_recursion_is_the_packages_own(tab, docs, update, groups):
    tab.goto((docs / "story" / "law.html").as_uri())
    turn(tab, "fastest particle", "7.0")
    turn(tab, "layers", "9")
    turn(tab, "an update counts", update)
    for name in groups: tab.get_by_role("checkbox", name=name).press("Space")
    bare, measured, law = values(tab).values()
    remedies = Remedies(**settings_of(UPDATES[update], groups))
    passes, read = forward_passes([7.0], remedies, 9), forward_passes([8.0, 0.1])
    k = constants(at_speed(read, 0), at_speed(read, 1))
    assert close(bare, forward_passes([7.0], layers=9)["q"][:, 0]) and close(measured, passes["q"][:, 0])
    told = predict(passes["q"][0, 0], passes["mu"][0, 0], k, remedies)[:9]
    apart = [abs(a - np.log10(b)) for a, b in zip(law, told) if b < 1e6]
    assert len(apart) > 1 and max(apart) < 0.1
    said, q, mu = tab.locator(".painn-law [role=status]").inner_text(), passes["q"][:, 0], passes["mu"][:, 0]
    assert f"the largest |q| {where(q)}; by the recursion it {where(told)}." in said
    layer, blown = first_blown_layer(mu), first_blown_layer(q)
    unseen = layer is not None and (blown is None or layer < blown)
    assert ("What it does not show" in said) == unseen == (groups == ["clamp of q"])
    assert not unseen or f"the largest ‖mu‖ passes 1e6 after layer {layer}." in said


def test_a_recipe_is_one_press_and_is_said_to_be_pressed(tab, docs):
    tab.goto((docs / "story" / "law.html").as_uri())
    button = tab.get_by_role("button", name="R2", exact=True)
    button.press("Enter")
    assert button.get_attribute("aria-pressed") == "true"
    assert tab.get_by_role("button", name="R0", exact=True).get_attribute("aria-pressed") == "false"
    checked = [box.is_checked() for box in tab.locator(".painn-law").get_by_role("checkbox").all()]
    assert checked == [False, True, True, True, True]
    assert list(values(tab)) == ["no remedy", "R2, measured", "R2, by the recursion"]
    picture = tab.locator(".painn-law svg[role=img]")
    assert "stays below 1e6" in picture.get_attribute("aria-label")


def test_code_is_copied_and_what_it_prints_is_not(browser, server):
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    page = context.new_page()
    page.goto(f"{server}/index.html")
    block = page.locator("div.highlight", has_text="make run").first
    block.hover()
    block.locator("button.copybtn").click()
    assert page.evaluate("navigator.clipboard.readText()").strip() == "make run RUN=R2"
    assert not page.locator("div.output button.copybtn").count()
    context.close()


def test_figures_of_the_story_are_numbered_and_stand_in_the_gallery(tab, server, docs):
    for page in sorted((docs / "story").glob("*.html")):
        tab.goto(f"{server}/story/{page.name}")
        told = tab.locator("figcaption").all_inner_texts()
        assert told and all(text.startswith(f"Figure {k}. ") for k, text in enumerate(told, 1)), page.name
    tab.goto(f"{server}/gallery.html")
    cards = tab.locator(".gallery a.card")
    assert cards.count() > 20
    cards.last.click()
    tab.wait_for_load_state()
    assert "#" in tab.url and tab.locator(f"[id='{tab.url.partition('#')[2]}']").count() == 1


@pytest.mark.parametrize("width", [390, 760, 1440])
def test_nothing_is_cut_at_any_width(browser, server, pages, width):
    page = browser.new_page(viewport={"width": width, "height": 900})
    for name in [name for name in pages if name.startswith(("index", "story", "gallery", "runs", "howto"))]:
        page.goto(f"{server}/{name}")
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.close()


INK = """() => [document.body, document.querySelector('.painn-law .picture text')].map(
    (e, k) => getComputedStyle(e)[k ? 'fill' : 'backgroundColor'])"""


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_figures_are_read_in_both_themes(browser, server, theme):
    page = browser.new_page(color_scheme=theme)
    page.goto(f"{server}/index.html")
    paper, ink = (sum(map(int, re.findall(r"\d+", colour)[:3])) for colour in page.evaluate(INK))
    assert paper > 700 and ink < 200 if theme == "light" else paper < 100 and ink > 500
    page.goto(f"{server}/story/recipe.html")
    corner = """() => { const i = document.querySelector('figure img'), c = document.createElement('canvas');
        c.getContext('2d').drawImage(i, 0, 0); return c.getContext('2d').getImageData(0, 0, 1, 1).data[3]; }"""
    assert page.evaluate(corner) == 0, "a figure has a ground of its own"
    page.close()


def test_a_still_stands_where_scripts_do_not_run(browser, server):
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{server}/index.html")
    assert page.locator("#painn-law-recipes img").get_attribute("alt").startswith("Largest |q| after each layer")
    context.close()


def test_it_is_readable_on_a_phone(browser, server):
    phone = browser.new_page(viewport={"width": 390, "height": 800})
    phone.goto(f"{server}/index.html")
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.locator("label[for=__navigation]:visible").first.click()
    link = phone.locator(".sidebar-tree a", has_text="law").first
    link.wait_for(state="visible")
    link.click()
    phone.wait_for_load_state()
    assert phone.url.endswith("story/law.html")
    phone.close()
