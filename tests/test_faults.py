"""A run that is killed is readable, and goes on as if nothing had happened."""

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
