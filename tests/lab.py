"JupyterLab in Debian's chromium: what the test of the panels and the benchmark of their latency share."

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).parents[1]
CHROMIUM = shutil.which("chromium")
START = 120_000  # ms, on a machine that has never started JupyterLab or torch and does other things too
QUIET = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]


@contextmanager
def chromium():
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def tracked(*paths: str) -> list[str]:
    "The files that git tracks below some paths."
    done = subprocess.run(["git", "ls-files", *paths], cwd=ROOT, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def copy_project(folder: Path) -> Path:
    "What the panels read, in a place where a live run may write."
    for name in tracked("nbs/explore.ipynb", "nbs/run.ipynb", "runs/painn"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return folder


@contextmanager
def jupyterlab(project: Path, home: Path):
    "A server on a project's folder with settings of its own, and its address."
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    env = os.environ | {f"JUPYTER_{kind}_DIR": str(home / kind) for kind in ("CONFIG", "DATA", "RUNTIME")}
    env |= {f"JUPYTERLAB_{kind}_DIR": str(home / kind) for kind in ("SETTINGS", "WORKSPACES")}
    env |= {"IPYTHONDIR": str(home), "PYTHONPATH": str(ROOT)}
    options = ["--no-browser", "--allow-root", f"--port={port}", "--port-retries=0", "--IdentityProvider.token=test"]
    made = re.search(r"\$\(BIN\)/jupyter lab (.*)", (ROOT / "Makefile").read_text())[1]  # the options of `make lab`
    command = [sys.executable, "-m", "jupyterlab", *shlex.split(made), *options]
    server = subprocess.Popen(command, cwd=project, env=env, stdout=(home / "log").open("w"), stderr=subprocess.STDOUT)
    try:
        for _ in range(START // 200):
            if server.poll() is not None: break
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api?token=test")
                break
            except OSError: time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        try: server.wait(30)
        except subprocess.TimeoutExpired: server.kill()  # it may wait for a kernel that is gone


def open_notebook(page: Page, url: str, notebook: str) -> None:
    "Open a notebook, and wait for its kernel: before, JupyterLab calls the lack of one idle."
    page.goto(f"{url}/lab/tree/{notebook}?token=test&reset")
    page.locator(".jp-KernelName", has_text="Python 3").wait_for(timeout=START)
    page.locator("[data-status=idle]").first.wait_for(state="attached", timeout=START)


def run_all_cells(page: Page, url: str, notebook: str) -> None:
    open_notebook(page, url, notebook)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()


def open_explore(browser: Browser, url: str) -> Page:
    "`nbs/explore.ipynb`, run, with all errors of the page in `errors`."
    page = browser.new_page(viewport={"width": 1500, "height": 1300})
    page.errors = []
    page.on("console", lambda m: page.errors.append(f"{m.text} {m.location}") if m.type == "error" else None)
    page.on("pageerror", lambda e: page.errors.append(str(e)))
    run_all_cells(page, url, "nbs/explore.ipynb")
    page.locator(".painn-panel").nth(4).wait_for(timeout=START)  # the last panel
    return page
