"""A run that is killed is readable, and goes on as if nothing had happened."""

import os
import random
import secrets
import shlex
import signal
import subprocess
import sys
import time

import pytest

from painn_nb.ablation import resume_experiment, run_experiment
from painn_nb.runs import Run

pytestmark = pytest.mark.slow
EPOCHS = 120  # many, so that the process is still training when it is killed
SETTINGS = dict(epochs=EPOCHS, features=16, layers=2, batch_size=8, seed=3)


def start(runs_dir, **settings):
    told = dict(runs_dir=str(runs_dir)) | SETTINGS | settings
    code = f"from painn_nb import run_experiment; run_experiment('R1', **{told!r})"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def same(run, whole):
    "Whether two runs have left the same, but for their names and the time that it took."
    def metrics(run): return run.metrics.drop(columns="seconds")
    return (run.records.path.read_text() == whole.records.path.read_text() and metrics(run).equals(metrics(whole))
            and run.summary == whole.summary)


def wait_for_steps(runs_dir, n):
    "The run directory, once it has n epochs."
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        for run in map(Run, runs_dir.glob("painn/*")):
            if len(run.epochs) >= n: return run
        time.sleep(0.005)
    raise TimeoutError


@pytest.mark.parametrize("checkpoint_seconds", [0, 1000], ids=["with a checkpoint", "before the first checkpoint"])
def test_killed_and_resumed_equals_never_killed(tmp_path, checkpoint_seconds):
    whole = run_experiment("R1", runs_dir=tmp_path / "whole", **SETTINGS)
    process = start(tmp_path / "killed", checkpoint_seconds=checkpoint_seconds)
    run = wait_for_steps(tmp_path / "killed", 5)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert not run.ended and (run.path / "checkpoint.pt").exists() == (checkpoint_seconds == 0)
    assert 5 <= len(run.metrics) < EPOCHS and not run.stats.empty

    with run.records.path.open("a") as f: f.write('{"step": 119, "debug/L0.mi')  # a torn line, as a power cut leaves it
    resume_experiment(run)
    assert run.records.path.read_text() == whole.records.path.read_text()
    assert run.metrics.drop(columns="seconds").equals(whole.metrics.drop(columns="seconds"))
    assert run.summary == whole.summary and not (run.path / "checkpoint.pt").exists()


def test_a_run_in_training_cannot_be_resumed_twice(tmp_path):
    process = start(tmp_path, epochs=900)
    try:
        run = wait_for_steps(tmp_path, 2)
        with pytest.raises(ValueError, match="being trained by another process"): resume_experiment(run)
    finally:
        process.kill(); process.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A run that nothing has happened to, and the seconds that its process took."
    folder, began = tmp_path_factory.mktemp("whole"), time.monotonic()
    assert start(folder).wait() == 0
    return Run(next(folder.glob("painn/*"))), time.monotonic() - began


@pytest.mark.parametrize("number", range(int(os.environ.get("FAULTS", 1))))
def test_killed_or_stopped_at_any_moment(number, whole, tmp_path):
    "Twice or more in one run; `make faults` draws many. FAULTS_SEED repeats one that failed."
    seed = int(os.environ.get("FAULTS_SEED") or secrets.randbits(32))
    print(f"FAULTS_SEED={seed}")
    drawn, (expected, seconds) = random.Random(seed), whole
    for how in drawn.choices(["kill", "kill", "interrupt", "stop", "stop and kill"], k=drawn.randint(1, 3)):
        made = list(tmp_path.glob("painn/*"))
        begun = any((run / "config.json").exists() for run in made)
        process = resume(made[0]) if begun else start(tmp_path, checkpoint_seconds=drawn.choice([0, 0.1, 1000]))
        time.sleep(drawn.uniform(0, 1.2 * seconds))
        runs = [Run(path) for path in tmp_path.glob("painn/*") if (path / "config.json").exists()]
        if "stop" in how and runs and not runs[0].ended: (runs[0].path / "stop").touch()
        if "stop" in how: time.sleep(drawn.uniform(0, 0.5))
        if "kill" in how: process.kill()
        if how == "interrupt": process.send_signal(signal.SIGINT)
        process.wait()
        for run in runs: list(run.records), list(run.epochs)  # readable
        if runs and how == "stop": assert runs[0].ended, seed
    for path in tmp_path.glob("painn/*"):
        if not (path / "config.json").exists(): path.rmdir()  # killed before anything was written
    run = Run(next(tmp_path.glob("painn/*"), None) or run_experiment("R1", runs_dir=tmp_path, **SETTINGS))
    (run.path / "stop").unlink(missing_ok=True)
    resume_experiment(run)
    assert same(run, expected), seed
    log = (tmp_path / "ABLATION.md").read_text()
    assert log.count(f"/{run.path.name}`") == 1 and run.report in log, seed
    assert not list(run.path.glob(".*.tmp")) and not list(tmp_path.glob("*.tmp")), seed


def resume(path):
    code = f"from painn_nb import resume_experiment; resume_experiment({str(path)!r})"
    return subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)


def test_stopped_in_the_middle_and_killed_before_its_end_loses_nothing(tmp_path, whole):
    process = start(tmp_path, checkpoint_seconds=1000)
    run = wait_for_steps(tmp_path, 30)
    (run.path / "stop").touch()
    while not (run.path / "checkpoint.pt").exists(): time.sleep(0.001)
    process.kill()
    process.wait()
    steps = len(run.metrics)
    resume_experiment(run)  # `stop` is still there
    assert (run.outcome, len(run.metrics)) == ("stopped", steps) and steps >= 30
    resume_experiment(run)
    assert same(run, whole[0])


def test_a_script_that_is_terminated_says_how_it_goes_on(tmp_path):
    told = SETTINGS | dict(epochs=900)
    code = f"from painn_nb import run_experiment; run_experiment('R1', runs_dir='here', **{told!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True, cwd=tmp_path)
    run = wait_for_steps(tmp_path / "here", 3)
    process.terminate()
    said = process.communicate()[1]
    [command] = [line for line in said.splitlines() if line.startswith("Stopped: ")]
    assert shlex.split(command)[3:5] == ["--resume", str(run.path)]


def test_a_full_disk_is_told_and_the_run_goes_on(tmp_path, monkeypatch, whole):
    "A limit on the size of files, as a disk that is full sets one."
    limited = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({2**16}, {2**16}));"
    ignored = "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
    code = f"from painn_nb import run_experiment; run_experiment('R1', runs_dir={str(tmp_path)!r}, **{SETTINGS!r})"
    done = subprocess.run([sys.executable, "-c", limited + ignored + code], stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "cannot be written (File too large); when that is mended, painn_nb run" in done.stderr
    run = Run(next(tmp_path.glob("painn/*")))
    assert not run.ended and resume_experiment(run).ended and same(run, whole[0])
