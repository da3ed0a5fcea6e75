"nbs/explore.ipynb as a user has it: JupyterLab in a browser, sliders moved by keyboard, a run started and stopped."

import re

import pytest
from playwright.sync_api import expect

from lab import copy_project, jupyterlab, open_explore, open_notebook
from painn_nb.widgets import STILL, ExplosionPanel, verdict

SLOW = 60_000  # ms, for a machine that does other things too


@pytest.fixture(scope="module")
def project(tmp_path_factory): return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def server(project, tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    with jupyterlab(project, home) as url: yield url, home


@pytest.fixture(scope="module")
def lab(browser, server):
    page = open_explore(browser, server[0])
    page.set_default_timeout(SLOW)
    yield page
    page.close()


def output_of(page, name):
    "The output of the cell that makes a panel."
    cells = page.locator(".jp-CodeCell", has=page.locator(".jp-InputArea", has_text=re.compile(rf"{name}\(\w?\)")))
    return cells.locator(".jp-OutputArea")


@pytest.fixture
def panel(lab):
    "A panel, in view."

    def find(name):
        cell = output_of(lab, name)
        cell.scroll_into_view_if_needed()
        return cell.locator(".painn-panel")

    yield find
    assert not lab.errors and not lab.locator(".painn-panel [role=alert]").all_inner_texts()
    for kind in ("stderr", "error"):
        assert not lab.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']").count()


def changed(picture, act):
    "Act, and wait until the picture is another one and not an empty one."
    before = picture.get_attribute("src")
    act()
    expect(picture).not_to_have_attribute("src", before, timeout=SLOW)
    expect(picture).not_to_have_js_property("naturalWidth", 0)
    return picture.get_attribute("alt")


def heard(place):
    "From now on all that is said in a place, in the page as `heard`."
    place.evaluate("""place => {
        window.heard = [];
        new MutationObserver(() => place.innerText && heard.push(place.innerText))
            .observe(place, { childList: true, subtree: true });
    }""")


def test_the_address_that_the_terminal_shows_is_that_of_the_notebook(server):
    url, home = server
    port = url.rpartition(":")[2]
    assert f"http://127.0.0.1:{port}/lab/tree/nbs/explore.ipynb?token=" in (home / "log").read_text()


def test_a_slider_moved_by_keyboard_changes_the_figure_and_the_layer_that_is_named(panel):
    out = panel("ExplosionPanel")
    sentence, picture = out.locator("[role=status] b"), out.locator("img")
    first = re.search(r"layer \d", sentence.inner_text())[0]
    fastest = out.get_by_role("slider", name="fastest particle", exact=True)
    for _ in range(3): words = changed(picture, lambda: fastest.press("PageUp"))
    second = re.search(r"layer \d", sentence.inner_text())[0]
    assert second < first, "a faster particle explodes in an earlier layer"
    assert second in words and first in out.locator("[role=status]").inner_text(), "the setting before is named too"


def test_a_drag_skips_what_it_has_no_time_to_draw(panel):
    out = panel("ExplosionPanel")
    fastest = out.get_by_role("slider", name="fastest particle", exact=True)
    picture = out.locator("img")
    picture.evaluate("""img => {
        window.drawn = 0;
        new MutationObserver(() => window.drawn++).observe(img, { attributeFilter: ['src'] });
    }""")
    for _ in range(40): fastest.press("ArrowLeft", no_wait_after=True)
    expected = ExplosionPanel()
    expected.speed.value = float(fastest.get_attribute("aria-valuetext"))
    expect(out.locator("[role=status] b")).to_have_text(verdict(expected.capture), timeout=SLOW)
    assert 0 < picture.evaluate("window.drawn") < 40


def test_a_recipe_saves_the_network_and_can_be_pasted(panel):
    out = panel("ExplosionPanel")
    changed(out.locator("img"), lambda: out.get_by_role("button", name="R2", exact=True).click())
    expect(out.locator("[role=status] b")).to_contain_text("No line passes 1e6")
    clip = out.get_by_role("slider", name="clip_mu_norm", exact=True)
    assert clip.get_attribute("aria-valuetext") == "20"
    changed(out.locator("img"), lambda: clip.press("End"))
    assert clip.get_attribute("aria-valuetext") == "off"
    out.get_by_role("button", name="Command", exact=True).click()
    command = re.compile(r"papermill nbs/run.ipynb .*-p run R2 .*-p clip_mu_norm off")
    expect(out.locator("textarea")).to_have_value(command)
    changed(out.locator("img"), lambda: clip.press("ArrowLeft"))
    expect(out.locator("textarea")).to_have_value(re.compile(r"-p clip_mu_norm 800000"))


def test_the_norms_of_r3_have_dials(panel):
    out = panel("ExplosionPanel")
    changed(out.locator("img"), lambda: out.get_by_role("button", name="R3", exact=True).click())
    expect(out.locator("[role=status] b")).to_contain_text("No line passes 1e6")
    for name, value in {"prenorm_q": "1", "prenorm_mu": "1", "residual_scale_mixing": "0.1"}.items():
        dial = out.get_by_role("slider", name=name, exact=True)
        assert dial.get_attribute("aria-valuetext") == value
        changed(out.locator("img"), lambda dial=dial: dial.press("End"))
        assert dial.get_attribute("aria-valuetext") == "off"


def test_the_run_browser_shows_the_committed_runs(panel, project):
    out = panel("RunBrowser")
    runs, picture = out.get_by_label("runs", exact=True), out.locator("img")
    there = sorted(path.parent.name for path in project.glob("runs/painn/*/summary.json"))
    newest = [name.partition("__")[2] for name in there[:-4:-1]]
    assert runs.locator("option").count() == len(there)
    assert all(name in picture.get_attribute("alt") for name in newest)
    step = out.get_by_role("slider", name="step", exact=True)
    changed(picture, lambda: step.press("Home"))
    assert "largest ‖mu‖ of" in changed(picture, lambda: out.get_by_label("statistic").select_option("largest ‖mu‖"))
    heard(out)
    assert newest[2] not in changed(picture, lambda: runs.select_option(index=0))
    assert any("reading 1 run …" in text for text in out.evaluate("() => heard"))
    out.get_by_text("Reports").click()
    expect(out.get_by_role("heading", name=newest[0])).to_be_visible()
    assert out.locator("li li").count() > 6 and out.locator("code").inner_text().endswith(newest[0])


def test_a_live_run_leaves_the_kernel_free_and_ends_when_told(panel, project):
    out = panel("LiveRun")
    settings = out.get_by_label("settings")
    settings.fill("epochs=900, features=16, layers=2, batch_size=8")
    settings.press("Tab")
    start, stop = (out.get_by_role("button", name=name, exact=True) for name in ("Start", "Stop"))
    expect(stop).to_be_disabled()
    heard(out)
    start.click()
    expect(start).to_be_disabled(timeout=SLOW)
    expect(out.locator("[role=status]")).to_contain_text(re.compile(r"step \d+, loss"), timeout=SLOW)
    said = out.evaluate("() => heard")
    assert any(re.search(r"starts … [1-9]", text) for text in said), "the seconds are counted until the first step"
    speed = panel("ExplosionPanel").get_by_role("slider", name="fastest particle", exact=True)
    changed(panel("ExplosionPanel").locator("img"), lambda: speed.press("ArrowLeft"))
    changed(panel("LiveRun").locator("img"), lambda: None)
    stop.click()
    expect(out.locator("[role=status]")).to_contain_text("stopped after", timeout=SLOW)
    assert any("stopping after this step …" in text for text in out.evaluate("() => heard"))
    expect(start).to_be_enabled(timeout=SLOW)
    expect(stop).to_be_disabled()
    run_dir = max(project.glob("runs/painn/*"))
    left = {path.name for path in run_dir.iterdir()}
    assert left >= {"config.json", "layer_stats.jsonl", "metrics.jsonl", "summary.json", "report.md", "model.pt"}


def test_the_worlds_can_be_turned_and_played(panel):
    out = panel("TrajectoryPanel")
    frame = out.get_by_role("slider", name="frame", exact=True)
    assert "frame 58" in changed(out.locator("img"), lambda: frame.press("ArrowLeft"))
    changed(out.locator("img"), lambda: out.get_by_role("slider", name="turn", exact=True).press("ArrowRight"))


def test_a_foreign_network_names_the_module_that_lost_its_numbers(panel, project):
    out = panel("WatchPanel")
    expect(out.locator("[role=status] b")).to_contain_text("First to fail: step 5, norm1: activation is nan")
    picture = out.locator("img")
    assert picture.get_attribute("alt") == "max of these captures, module against step; what was held"
    assert "input_max" in changed(picture, lambda: out.get_by_label("statistic").select_option("input_max"))
    r2 = min(project.glob("runs/painn/*__R2_full"))
    changed(picture, lambda: out.get_by_label("captures").select_option(f"runs/painn/{r2.name}"))
    expect(out.locator("[role=status] b")).to_have_text("All captured values are finite.")


def test_stills_remain_where_the_kernel_is_gone(lab, server, browser):
    "The last test, since it ends the kernel: after a restart, and in the notebook opened again."
    names = ("ExplosionPanel", "RunBrowser", "LiveRun", "TrajectoryPanel", "WatchPanel")
    shown = {name: output_of(lab, name).locator(".painn-panel img").get_attribute("alt") for name in names}

    def only_the_still(page):
        for name in names:
            out = output_of(page, name)
            out.scroll_into_view_if_needed()
            expect(out.get_by_text(STILL)).to_be_visible()
            if shown[name]: expect(out.locator(".painn-still img")).not_to_have_js_property("naturalWidth", 0)
            expect(out.locator(".jupyter-widgets:visible")).to_have_count(0)
            assert (out.locator("img:visible").get_attribute("alt") if shown[name] else "") == shown[name]

    for name, words in shown.items():
        expect(output_of(lab, name).get_by_text(STILL)).to_be_hidden()
        if words: expect(output_of(lab, name).locator(".painn-still img")).to_have_attribute("alt", words)
    lab.get_by_role("menuitem", name="Kernel", exact=True).click()
    lab.locator(".lm-Menu-itemLabel", has_text=re.compile("^Restart Kernel…$")).click()
    lab.locator(".jp-Dialog .jp-mod-accept").click()
    only_the_still(lab)
    lab.get_by_role("button", name="Save and create checkpoint").first.click()
    page = browser.new_page(viewport={"width": 1500, "height": 1300})
    page.set_default_timeout(SLOW)
    open_notebook(page, server[0], "nbs/explore.ipynb")
    only_the_still(page)
    page.close()
