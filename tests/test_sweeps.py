"Sweeps as they are used: interrupted, terminated, killed, two at once, and on a cluster of worker processes."

import json
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import TINY
from distributed import Client, LocalCluster

from painn_nb.ablation import run_experiment
from painn_nb.sweeps import sweep

LONG = TINY | dict(epochs=250, device="cpu", debug_layer_stats_every=0, checkpoint_seconds=0.1)
SCRIPT = "import json, sys; from painn_nb.sweeps import sweep; sweep(json.loads(sys.argv[1]), sys.argv[2], workers=2)"


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    "The first long run, undisturbed."
    return run_experiment("R0", runs_dir=tmp_path_factory.mktemp("alone"), seed=0, **LONG)


def same(run, other):
    numbers = ["step", "loss", "pos_dt", "vel", "grad_norm"]
    return run.outcome == other.outcome == "completed" and run.metrics[numbers].equals(other.metrics[numbers])


def jobs_of(n, **settings): return [dict(run="R0", seed=seed, **settings) for seed in range(n)]


def begin(jobs, folder):
    "A sweep in a process of its own, the leader of a group."
    command = [sys.executable, "-c", SCRIPT, json.dumps(jobs), str(folder)]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, start_new_session=True)


def wait_for(what, seconds=60):
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)
    return found


def children(pid):
    "All processes below one."
    found = []
    for status in Path("/proc").glob("[0-9]*/status"):
        with suppress(OSError):
            if re.search(rf"^PPid:\s+{pid}$", status.read_text(), re.MULTILINE):
                found += [int(status.parent.name), *children(int(status.parent.name))]
    return found


def alive(pids):
    "Those that run; what has ended and was not fetched yet does not count."
    def state(pid):
        with suppress(OSError): return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return [pid for pid in pids if state(pid) not in (None, "Z")]


def training(folder, n=2): return len(list(folder.glob("painn/*/checkpoint.pt"))) >= n


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM", "SIGKILL"])
def test_a_sweep_that_is_ended_takes_its_processes_along_and_goes_on(tmp_path, alone, how):
    jobs = jobs_of(3, **LONG)
    running = begin(jobs, tmp_path)
    wait_for(lambda: training(tmp_path))
    below = children(running.pid)
    assert len(below) >= 2
    began = time.monotonic()
    if how == "Ctrl-C": os.killpg(running.pid, signal.SIGINT)
    else: running.send_signal(getattr(signal, how))
    said = running.communicate(timeout=30)[1]
    wait_for(lambda: not alive(below), 10)
    assert time.monotonic() - began < 5
    assert running.returncode != 0
    if how != "SIGKILL": assert "runs are done; the same sweep goes on from the last checkpoint of each run." in said
    first, *_ = sweep(jobs, tmp_path)
    assert len(list(tmp_path.glob("painn/*"))) == 3 and same(first, alone)


@pytest.mark.slow
def test_a_killed_process_is_replaced(tmp_path):
    jobs = jobs_of(3, **LONG)
    running = begin(jobs, tmp_path)
    wait_for(lambda: training(tmp_path))
    [victim, *_] = [pid for pid in children(running.pid) if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text()]
    os.kill(victim, signal.SIGKILL)
    said = running.communicate(timeout=180)[1]
    assert running.returncode == 0, said
    assert len(list(tmp_path.glob("painn/*/summary.json"))) == len(list(tmp_path.glob("painn/*"))) == 3


@pytest.mark.slow
def test_two_sweeps_share_a_folder(tmp_path):
    jobs = jobs_of(6, **TINY | dict(device="cpu", epochs=50))
    both = [begin(order, tmp_path) for order in (jobs, jobs[::-1] + jobs[:1])]
    assert [(b.communicate(timeout=180), b.returncode)[1] for b in both] == [0, 0]
    seeds = [json.loads(p.read_text())["seed"] for p in tmp_path.glob("painn/*/config.json")]
    assert sorted(seeds) == list(range(6))
    assert len(list(tmp_path.glob("painn/*/summary.json"))) == 6


@pytest.mark.slow
def test_what_cannot_be_read_and_what_fails_take_nothing_along(tmp_path):
    jobs = jobs_of(2, **TINY, device="cpu")
    (tmp_path / "painn" / "2026-01-01_00-00-00__old").mkdir(parents=True)
    (tmp_path / "painn" / "2026-01-01_00-00-00__old" / "config.json").write_text("")
    impossible = dict(run="R0", features=2**22, **{k: v for k, v in TINY.items() if k != "features"}, device="cpu")
    with pytest.warns(UserWarning, match="__old is left out"), pytest.raises(RuntimeError) as failed:
        sweep([jobs[0], impossible, jobs[1]], tmp_path)
    assert "1 of 3 runs failed, the others are done:\n- run R0, features 4194304" in str(failed.value)
    assert len(list(tmp_path.glob("painn/*/summary.json"))) == 2


@pytest.mark.slow
def test_on_a_cluster_the_run_of_a_killed_worker_is_continued_bit_for_bit(tmp_path, alone):
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster, Client(cluster) as client:
        def kill_the_busy_one():
            wait_for(lambda: training(tmp_path, 1))
            busy = [address for address, tasks in client.processing().items() if tasks]
            os.kill(client.run(os.getpid, workers=busy)[busy[0]], signal.SIGKILL)
        with ThreadPoolExecutor() as beside:
            killed = beside.submit(kill_the_busy_one)
            [run] = sweep(jobs_of(1, **LONG), tmp_path, executor=client.get_executor())
            killed.result()
    assert len(list(tmp_path.glob("painn/*"))) == 1 and same(run, alone)
