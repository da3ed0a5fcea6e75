"nbs/explore.ipynb as a user has it: JupyterLab in a browser, sliders moved by keyboard, a run started and stopped."

import re

import pytest
from playwright.sync_api import expect

from lab import copy_project, jupyterlab, open_explore
from painn_nb.widgets import ExplosionPanel, verdict

SLOW = 60_000  # ms, for a machine that does other things too


@pytest.fixture(scope="module")
def project(tmp_path_factory): return copy_project(tmp_path_factory.mktemp("project"))


@pytest.fixture(scope="module")
def lab(browser, project, tmp_path_factory):
    with jupyterlab(project, tmp_path_factory.mktemp("home")) as url:
        page = open_explore(browser, url)
        page.set_default_timeout(SLOW)
        yield page
        page.close()


@pytest.fixture
def panel(lab):
    "The output of the cell that makes a panel, in view."

    def find(name):
        cell = lab.locator(".jp-CodeCell", has=lab.locator(".jp-InputArea", has_text=f"{name}()"))
        cell.scroll_into_view_if_needed()
        return cell.locator(".jp-OutputArea")

    yield find
    assert not lab.errors and not lab.locator(".jp-OutputArea [role=alert]").all_inner_texts()
    for kind in ("stderr", "error"):
        assert not lab.locator(f"[data-mime-type='application/vnd.jupyter.{kind}']").count()


def changed(picture, act):
    "Act, and wait until the picture is another one and not an empty one."
    before = picture.get_attribute("src")
    act()
    expect(picture).not_to_have_attribute("src", before, timeout=SLOW)
    expect(picture).not_to_have_js_property("naturalWidth", 0)
    return picture.get_attribute("alt")


def test_a_slider_moved_by_keyboard_changes_the_figure_and_the_site_that_is_named(panel):
    out = panel("ExplosionPanel")
    sentence, picture = out.locator("[role=status] b"), out.locator("img")
    first = re.search(r"L\d\.\w+\.\w+", sentence.inner_text())[0]
    fastest = out.get_by_role("slider", name="fastest particle", exact=True)
    for _ in range(3): words = changed(picture, lambda: fastest.press("PageUp"))
    second = re.search(r"L\d\.\w+\.\w+", sentence.inner_text())[0]
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
    expect(out.locator("[role=status] b")).to_contain_text("No site passes 1e6")
    clip = out.get_by_role("slider", name="clip_mu_norm", exact=True)
    assert clip.get_attribute("aria-valuetext") == "20"
    changed(out.locator("img"), lambda: clip.press("End"))
    assert clip.get_attribute("aria-valuetext") == "off"
    out.get_by_role("button", name="Command", exact=True).click()
    command = re.compile(r"papermill nbs/run.ipynb .*-p run R2 .*-p clip_mu_norm off")
    expect(out.locator("textarea")).to_have_value(command)


def test_the_run_browser_shows_the_committed_runs(panel, project):
    out = panel("RunBrowser")
    runs, picture = out.get_by_label("runs", exact=True), out.locator("img")
    there = sorted(path.parent.name for path in project.glob("runs/painn/*/summary.json"))
    newest = [name.partition("__")[2] for name in there[:-4:-1]]
    assert runs.locator("option").count() == len(there)
    assert all(name in picture.get_attribute("alt") for name in newest)
    step = out.get_by_role("slider", name="step", exact=True)
    changed(picture, lambda: step.press("Home"))
    assert "mu_norm_max" in changed(picture, lambda: out.get_by_label("statistic").select_option("mu_norm_max"))
    assert newest[2] not in changed(picture, lambda: runs.select_option(index=0))
    out.get_by_text("Reports").click()
    expect(out.locator("pre")).to_contain_text(f"## {newest[0]}")


def test_a_live_run_leaves_the_kernel_free_and_ends_when_told(panel, project):
    out = panel("LiveRun")
    settings = out.get_by_label("settings")
    settings.fill("epochs=900, features=16, layers=2, batch_size=8")
    settings.press("Tab")
    out.get_by_role("button", name="Start", exact=True).click()
    expect(out.locator("[role=status]")).to_contain_text(re.compile(r"step \d+, loss"), timeout=SLOW)
    speed = panel("ExplosionPanel").get_by_role("slider", name="fastest particle", exact=True)
    changed(panel("ExplosionPanel").locator("img"), lambda: speed.press("ArrowLeft"))
    changed(panel("LiveRun").locator("img"), lambda: None)
    out.get_by_role("button", name="Stop", exact=True).click()
    expect(out.locator("[role=status]")).to_contain_text("stopped after", timeout=SLOW)
    run_dir = max(project.glob("runs/painn/*"))
    left = {path.name for path in run_dir.iterdir()}
    assert left >= {"config.json", "layer_stats.jsonl", "metrics.jsonl", "summary.json", "report.md", "model.pt"}


def test_the_worlds_can_be_turned_and_played(panel):
    out = panel("TrajectoryPanel")
    frame = out.get_by_role("slider", name="frame", exact=True)
    assert "frame 58" in changed(out.locator("img"), lambda: frame.press("ArrowLeft"))
    changed(out.locator("img"), lambda: out.get_by_role("slider", name="turn", exact=True).press("ArrowRight"))
