import re
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from lab import CHROMIUM, chromium

ROOT = Path(__file__).parents[1]
TINY = dict(epochs=4, features=16, layers=2, batch_size=8)  # the same code as a full run, in a second

# in the background a shell lets Ctrl-C be ignored, and so it would be in all that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    "What starts a whole notebook, a browser or a changed package is slow; it begins first, so that none waits for it."
    for item in items:
        if {"papermill", "browser", "walk"} & set(item.fixturenames): item.add_marker(pytest.mark.slow)
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


class OneBrowser(LoadScopeScheduling):
    "Any test to any worker, but those in a browser in turn, on one; xdist's own groups do nothing under pytest 9.2."

    def _split_scope(self, nodeid):
        return "browser" if re.search("test_(explore|site)", nodeid) else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log): return OneBrowser(config, log)


@pytest.fixture(scope="session")
def root(): return ROOT


@pytest.fixture(scope="session")
def papermill():
    "Run nbs/run.ipynb through the papermill command, as a user would."

    def command(*args, **settings):
        parameters = [x for k, v in settings.items() for x in ("-p", k, str(v))]
        return subprocess.run([sys.executable, "-m", "papermill", "nbs/run.ipynb", *args, *parameters], cwd=ROOT,
                              capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=600)

    return command


@pytest.fixture(scope="module")
def browser():
    if not CHROMIUM: pytest.skip("chromium is not installed; `make test` as root on Debian installs it")
    with chromium() as b: yield b
