"The command line, and the forms of papermill, as a user types them."

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from conftest import TINY
from test_sweeps import wait_for

BIN = Path(sys.executable).parent
SMALL = [word for name, value in TINY.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def painn_nb(*words, program=BIN / "painn_nb", **more):
    return subprocess.run([program, *map(str, words)], capture_output=True, text=True, timeout=300, **more)


@pytest.mark.slow
def test_from_nothing_to_a_comparison(tmp_path):
    done = painn_nb("sweep", "original", "--seeds", 2, "--runs-dir", "here", *SMALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines() if re.match(r"R\d ", line)] == ["R0", "R1", "R2"] * 3
    assert "6/6" in done.stderr and "R0 survived 2 of 2 seeds" in done.stdout
    again = painn_nb("sweep", "original", "--seeds", 2, "--runs-dir", "here", *SMALL, cwd=tmp_path)
    assert again.stderr.startswith("6 of 6 runs are there already.") and again.stdout == done.stdout
    compared, kept = done.stdout.split("\nKept in ")
    assert painn_nb("compare", "here", cwd=tmp_path).stdout == compared and kept == "here/ABLATION.md.\n"
    log = painn_nb("log", "here", cwd=tmp_path).stdout
    assert log.count("\n## ") == 6 + 2 and log.count("## Comparison") == 1  # recommended settings, comparison
    assert painn_nb("explain", "R1", "--runs-dir", "here", cwd=tmp_path).stdout.startswith("## R1_resid0_5\n")


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_stopped_says_how_it_goes_on(tmp_path, how):
    command = [BIN / "painn_nb", "run", "R0", "--runs-dir", tmp_path, *SMALL, "--epochs", "90000",
               "--checkpoint-seconds", "0.1"]
    running = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(lambda: list(tmp_path.glob("painn/*/checkpoint.pt")))
    running.send_signal(how)
    began = time.monotonic()
    said = running.communicate(timeout=30)[1]
    assert time.monotonic() - began < 15 and running.returncode == 130 and "Traceback" not in said  # of many minutes
    [run] = tmp_path.glob("painn/*")
    [hint] = re.findall(r"^Stopped: painn_nb (run --resume \S+) goes on from the last checkpoint", said, re.MULTILINE)
    (run / "stop").touch()
    done = painn_nb(*shlex.split(hint), cwd="/")
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == str(run)


@pytest.mark.slow
def test_mistakes_are_one_sentence_and_leave_nothing(tmp_path):
    for words, said in [
        (["run", "R2", "--n-rbf", "1"], "n_rbf is '1'"), (["run", "R2", "--device", "meta"], "device is 'meta'"),
        (["run", "R2", "--seed", 2**64], "seed is"), (["sweep", "orignal"], "the grids are"),
        (["sweep", "original", "--dtype", "float16"], "dtype is 'float16'"), (["compare"], "runs"),
    ]:
        done = painn_nb(*words, *(["--runs-dir", "here"] if words[0] != "compare" else ["here"]), cwd=tmp_path)
        assert done.returncode == 1 and done.stderr.startswith("Error: ") and said in done.stderr, done
        assert "Traceback" not in done.stderr and not (tmp_path / "here").exists()


@pytest.mark.slow
def test_a_wheel_in_an_empty_folder(root, tmp_path):
    "The notebooks travel with the package: the environment's own copy is out of reach here."
    shutil.copytree(root, tmp_path / "source", ignore=shutil.ignore_patterns(".*", "runs", "docs", "_proc", "*.pt"))
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--no-build-isolation", "--target", tmp_path / "site", tmp_path / "source"], check=True)
    shutil.rmtree(tmp_path / "source")
    empty = tmp_path / "empty"
    empty.mkdir()
    env = os.environ | {"PYTHONPATH": str(tmp_path / "site")}
    there = partial(painn_nb, program=tmp_path / "site" / "bin" / "painn_nb", cwd=empty, env=env)
    done = there("run", "R1", *SMALL)
    assert done.returncode == 0, done.stderr
    path = Path(done.stdout.splitlines()[-1])
    assert path.parent == empty / "runs" / "painn" and (path / "report.md").exists()
    assert "R1 survived 1 of 1 seeds" in there("compare").stdout

    lab = subprocess.Popen([tmp_path / "site" / "bin" / "painn_nb", "lab", "--no-browser", "--allow-root"], cwd=empty,
                           env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)
    try: assert any("/lab?token=" in line for line in lab.stdout)
    finally: os.killpg(lab.pid, signal.SIGKILL)
    assert sorted(p.name for p in empty.glob("nbs/*.ipynb")) == ["explore.ipynb", "run.ipynb", "sweep.ipynb"]


@pytest.mark.slow
def test_the_forms_know_all_settings(root, tmp_path):
    more = [word for name, value in (TINY | dict(clip_mu_norm="off")).items() for word in ("-p", name, str(value))]
    def papermill(name, *words):
        forms = root / "nbs" / f"{name}.ipynb", tmp_path / f"{name}.ipynb"
        return painn_nb(*forms, "--no-progress-bar", *words, program=BIN / "papermill", cwd=root)
    done = papermill("sweep", "-p", "runs_dir", tmp_path, "-p", "seeds", 2, "-p", "grid", "seeds", *more)
    assert done.returncode == 0 and "unknown parameter" not in done.stderr, done.stderr
    shown = json.dumps(json.loads((tmp_path / "sweep.ipynb").read_text())["cells"])
    assert "R2, clip_mu_norm off survived 2 of 2 seeds" in shown and "image/png" in shown
    for words, said in [(["-p", "_clip_mu_norm", 3], "_clip_mu_norm is no setting; write clip_mu_norm."),
                        (["-y", "clip_q_value: [1, 2]"], "clip_q_value is [1, 2]"),
                        (["-p", "clip_mu", 3], "did you mean")]:
        refused = papermill("run", *words, "-p", "runs_dir", tmp_path / "none")
        assert refused.returncode and said in refused.stderr and not (tmp_path / "none").exists()


def test_the_forms_name_settings_as_they_are(root):
    from painn_nb.recipes import HELP
    for name in ("run", "sweep"):
        cells = json.loads((root / "nbs" / f"{name}.ipynb").read_text())["cells"]
        [form] = ["".join(c["source"]) for c in cells if "parameters" in c["metadata"].get("tags", ())]
        told = dict(re.findall(r'^(\w+) = "recipe"  # (.*)$', form, re.MULTILINE))
        assert told == {k: v for k, v in HELP.items() if k in told} and len(told) >= len(HELP) - 1
