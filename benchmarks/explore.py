"""How long one move of a slider takes: in the kernel, and from the key to the new picture in a browser.

`make bench` runs this.
"""

import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from common import write
from painn_nb.recipes import RECIPES
from painn_nb.widgets import ExplosionPanel

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from lab import CHROMIUM, chromium, copy_project, jupyterlab, open_explore

MOVES = 30
NEW_PICTURE = "old => document.querySelector('.jp-OutputArea img').src !== old"


def spread(seconds):
    low, middle, high = (1e3 * q for q in statistics.quantiles(seconds, n=4))
    return {"ms": middle, "quartiles": [low, high], "longest_ms": 1e3 * max(seconds)}


def in_the_kernel(recipe):
    "Milliseconds to look at six layers of 64 channels and draw them."
    panel, seconds = ExplosionPanel(), []
    panel.choose(recipe.settings)
    for way in (1, -1) * (MOVES // 2):
        start = time.perf_counter()
        panel.speed.index += way
        seconds.append(time.perf_counter() - start)
    return spread(seconds)


def in_the_browser():
    "The same for each recipe, from the key to the picture, in JupyterLab and chromium on this machine."
    rows = {}
    with tempfile.TemporaryDirectory() as folder, chromium() as browser:
        (home := Path(folder) / "home").mkdir()
        with jupyterlab(copy_project(Path(folder) / "project"), home) as url:
            page = open_explore(browser, url)
            fastest = page.get_by_role("slider", name="fastest particle")
            def move(act):
                old = page.evaluate("document.querySelector('.jp-OutputArea img').src")
                start = time.perf_counter()
                act()
                page.wait_for_function(NEW_PICTURE, arg=old, polling=5)
                return time.perf_counter() - start
            for name in RECIPES:
                page.get_by_role("button", name=name, exact=True).click()
                page.wait_for_timeout(2000)
                fastest.focus()
                keys = ("ArrowRight", "ArrowLeft") * (MOVES // 2)
                rows[name] = spread([move(partial(fastest.press, key)) for key in keys])
    return rows


if __name__ == "__main__":
    kernel = {name: in_the_kernel(recipe) for name, recipe in RECIPES.items()}
    browser = in_the_browser() if CHROMIUM else {}
    for where, rows in (("kernel", kernel), ("browser", browser)):
        for name, row in rows.items():
            print(f"one move of a slider, {name}, {where}: {row['ms']:.0f} ms, longest {row['longest_ms']:.0f} ms")
    if not CHROMIUM: print("chromium is not installed: nothing measured in a browser")
    write("explore", moves=MOVES, kernel=kernel, browser=browser)
