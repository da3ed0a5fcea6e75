"The benchmarks of papers and EGNN itself: data on disk, symmetries, whole runs, sweeps, and runs that are killed."

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from itertools import islice

import nbformat
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_model import all_pairs, assert_same, flat, world

from painn_nb import tasks
from painn_nb.ablation import resume_experiment, run_experiment
from painn_nb.comparison import as_markdown, compare, conclusion, outcomes
from painn_nb.egnn import EGNN
from painn_nb.process import can_compile, compile_layers
from painn_nb.recipes import project_root
from painn_nb.runs import Run, pack, packed, runs, settings_apart
from painn_nb.sweeps import differences, sweep
from painn_nb.tasks import TASKS
from painn_nb.trainer import evaluate

SMALL = dict(task="egnn", system="charged", features=8, layers=2, dtype="float32", device="cpu")


@pytest.fixture
def often(monkeypatch):
    "Validation after every second step."
    monkeypatch.setitem(TASKS, "egnn", replace(TASKS["egnn"], validate_every=2))


def places(cache, task, file):
    "What a process of its own finds in a cache, or makes there, and when that was written."
    code = f"from painn_nb import tasks; print(tasks.worlds_of(tasks.{task})['test'].pos[-1].tolist())"
    env = os.environ | {"XDG_CACHE_HOME": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    return json.loads(done.stdout), (cache / "painn_nb" / file).stat().st_mtime_ns


@pytest.mark.slow
@pytest.mark.parametrize("task, file", [
    ("EGNN_CHARGED", "egnn_charged.pt"), ("SEGNO_GRAVITY[1500]", "segno_1500_gravity_segnn.pt")])
def test_worlds_are_simulated_once_and_are_the_benchmarks(tmp_path, task, file):
    first, second = places(tmp_path, task, file), places(tmp_path, task, file)
    assert first == second
    kept = tasks.Batch(*torch.load(tmp_path / "painn_nb" / file, weights_only=True))
    others = {tasks.EGNN_CHARGED, *tasks.SEGNO_GRAVITY.values()}
    assert [f"{b.name}_{b.system}.pt" for b in others if tasks.are_right(kept, b)] == [file]
    assert kept.pos[-1].tolist() == first[0]


def test_worlds_of_another_numpy_are_told_and_used(tmp_path):
    worlds = tasks.EGNN_CHARGED.batch_of([0])
    with pytest.warns(UserWarning, match="egnn: NumPy .* draws other worlds."):
        assert tasks.kept(tmp_path / "egnn.pt", lambda: worlds, right=lambda worlds: False) is worlds


def test_where_nothing_can_be_kept_worlds_are_simulated(tmp_path, monkeypatch):
    worlds = torch.cat([part.pos for part in tasks.worlds_of(tasks.EGNN_CHARGED).values()])
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr(
        tasks.Benchmark, "batch_of", lambda self, numbers: tasks.Batch(worlds[..., 0], *3 * [worlds], None))
    with pytest.warns(UserWarning, match="egnn_charged.pt cannot be kept"):
        assert tasks.worlds_of.__wrapped__(tasks.EGNN_CHARGED)["test"].pos.equal(worlds[-2000:])


def network(seed):
    "EGNN with weights by which messages move particles, as after some training."
    torch.manual_seed(seed)
    model = EGNN(8, 3).double()
    with torch.no_grad():
        for layer in model.backbone.layers.values(): layer.inter.pos_net[-1].weight.mul_(1000)
    return model


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_egnn_turns_with_the_world(seed):
    charge, pos, vel, rotation, shift = world(seed)
    model, order = network(seed), torch.randperm(4)
    for turn in (rotation, -rotation):  # one of the two is a reflection
        assert_same([x @ turn for x in model(charge, pos, vel)], model(charge, pos @ turn + shift, vel @ turn))
    assert_same([x[:, order] for x in model(charge, pos, vel)], model(charge[:, order], pos[:, order], vel[:, order]))


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), n=st.integers(1, 5))
def test_complete_worlds_equal_their_edge_list(seed, n):
    charge, pos, vel, _, _ = world(seed, n)
    model, results = network(seed), []
    for inputs, edge_index in (((charge, pos, vel), None), (flat(charge, pos, vel), all_pairs(2, n))):
        out = model(*inputs, edge_index)
        grads = torch.autograd.grad(sum(x.square().sum() for x in out), [*model.parameters()], materialize_grads=True)
        results.append([x.reshape(-1, 3) for x in out] + [g.flatten() for g in grads])
    assert_same(*results)


@pytest.mark.skipif(not can_compile(), reason="torch.compile does not work here")
def test_compiled_egnn_is_the_same():
    inputs, model = world(3)[:3], network(3)
    eager = [x.detach() for x in model(*inputs)]
    compile_layers(model)
    assert_same(eager, [x.detach() for x in model(*inputs)])


def has_no_velocity(run):
    assert "vel" not in run.metrics and "val_vel" not in run.metrics
    assert set(run.summary["held_out"]) == set(run.summary["ballistic"]) == {"pos_dt"}
    text = run.report + (run.path / "summary.json").read_text()
    assert not re.search(r"\bvel\b|\bnan\b|=nan|\"NaN\"", text)


def test_papermill(papermill, tmp_path):
    done = papermill("/dev/null", run="R3", runs_dir=tmp_path, epochs=4, **SMALL)
    assert done.returncode == 0, done.stderr
    [run] = map(Run, (tmp_path / "painn").iterdir())
    assert run.name == "R3_norm_task_egnn_system_charged" and run.config.batch_size == 100
    has_no_velocity(run)
    assert run.summary["best"]["step"] == 3 and run.metrics.val_pos_dt.notna().tolist() == [False, False, False, True]
    assert "The weights are those after step 3, the best in validation" in run.report
    notebook = nbformat.read(run.path / "run.ipynb", 4)
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    assert not any(output.output_type == "error" for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 3
    apart = settings_apart(run.about)
    assert "batch_size" in apart["rest"] and {"task", "system"} <= set(apart["changed"])


def test_the_best_weights_are_those_that_are_tested(tmp_path, often):
    "A learning rate so large that the last weights are not the best."
    wild = dict(epochs=12, warmup=1, clip_gradients_norm="off", **SMALL)
    run = run_experiment("R0", tmp_path, lr_peak=0.1, **wild)
    looked = run.metrics.set_index("step").val_pos_dt.dropna()
    assert looked.index.tolist() == [1, 3, 5, 7, 9, 11] and looked.idxmin() < 11
    assert run.summary["best"] == {"step": looked.idxmin(), "val_pos_dt": looked.min()}
    assert evaluate(run.model, TASKS["egnn"].held_out("val"))["pos_dt"] == looked.min()
    assert evaluate(run.model, TASKS["egnn"].held_out("test")) == run.summary["held_out"]
    exploded = run_experiment("R0", tmp_path, lr_peak=0.3, **wild)
    assert exploded.outcome == "exploded" and all(p.isfinite().all() for p in exploded.model.parameters())
    assert evaluate(exploded.model, TASKS["egnn"].held_out("val"))["pos_dt"] == exploded.summary["best"]["val_pos_dt"]


def test_captures_do_not_see_validation(tmp_path, often, monkeypatch):
    told = dict(epochs=6, debug_layer_stats_every=1, **SMALL)
    seen = run_experiment("R1", tmp_path, **told)
    monkeypatch.setitem(TASKS, "egnn", replace(TASKS["egnn"], validate_every=100))
    assert run_experiment("R1", tmp_path, **told).records.path.read_text() == seen.records.path.read_text()


@pytest.mark.slow
def test_killed_and_resumed_equals_never_killed(tmp_path):
    "Best weights so far are part of what goes on."
    told = dict(epochs=320, seed=1, lr_peak=0.03, debug_layer_stats_every=50, **SMALL)
    whole = run_experiment("R3", tmp_path / "whole", **told)
    told |= dict(runs_dir=str(tmp_path / "killed"), checkpoint_seconds=0)
    code = f"from painn_nb import run_experiment; run_experiment('R3', **{told!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 300
    while not (found := [*tmp_path.glob("killed/painn/*")]) or len(Run(found[0]).epochs) < 155:
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    run = Run(found[0])
    assert not run.ended
    resume_experiment(run)
    assert run.summary == whole.summary and run.records.path.read_text() == whole.records.path.read_text()
    assert run.metrics.drop(columns="seconds").equals(whole.metrics.drop(columns="seconds"))
    ours, theirs = run.model.state_dict(), whole.model.state_dict()
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_a_sweep_of_tasks_and_networks(tmp_path):
    told = dict(epochs=3, **SMALL)
    other = dict(epochs=3, features=8, layers=2, batch_size=8, dtype="float32", device="cpu")
    jobs = [dict(run="R0", seed=seed, **more) for seed in (0, 1)
            for more in (told, told | dict(network="egnn"), other)]
    found = sweep(jobs, tmp_path, workers=2)
    assert [run.outcome for run in found] == ["completed"] * 6
    table = runs(tmp_path)
    assert table.held_out_vel.notna().sum() == 2 and table.best_step.notna().sum() == 4
    for run in map(Run, table.run_dir): assert ("vel" in run.metrics) == (run.config.task == "next_frame")
    for run in map(Run, table.run_dir[table.task == "egnn"]): has_no_velocity(run)

    compared = compare(tmp_path)
    assert sorted("task egnn" in setup for setup in compared.setup) == [False, True, True]
    said = as_markdown(compared) + conclusion(compared)
    assert "nan" not in said and "inf" not in said and said.count("(ballistic: pos_dt 0.11)") == 2
    assert conclusion(compared).count("median displacement error") == 2

    pack(tmp_path)
    assert outcomes(packed(tmp_path)).pos_dt.tolist() == outcomes(tmp_path).pos_dt.tolist()
    same = differences(packed(tmp_path), packed(tmp_path))
    assert len(same) == 6 and (same.equal == 1).all()


def test_a_folder_of_the_benchmark_alone_is_packed(tmp_path):
    run_experiment("R0", tmp_path, epochs=2, **SMALL)
    pack(tmp_path)
    data = packed(tmp_path)
    assert "vel" not in data.metrics and data.runs.held_out_pos_dt.notna().all()
    assert (differences(data, data).equal == 1).all() and compare(data).pos_dt_ballistic.notna().all()


@pytest.mark.parametrize("steps, straight_on", [(1000, 0.1247), (1500, 0.4036), (2000, 0.8818)])
def test_gravity_at_a_horizon(tmp_path, steps, straight_on):
    "The error of flying straight on knows the frames, the time between them, and the worlds of the test."
    told = SMALL | dict(task=f"segno_{steps}", system="gravity_segnn")
    run = run_experiment("R3", tmp_path, epochs=2, **told)
    has_no_velocity(run)
    assert run.summary["ballistic"]["pos_dt"] == pytest.approx(straight_on, rel=0.01)
    assert run.summary["held_out"] == evaluate(run.model, TASKS[f"segno_{steps}"].held_out("test"))
    train, test = (torch.cat([batch.pos for batch in batches]) for batches in (
        islice(TASKS[told["task"]].train(100), 30), TASKS[told["task"]].held_out("test")))
    assert len(train.unique(dim=0)) == 3000 and len(torch.cat([train, test]).unique(dim=0)) == 5000


@pytest.mark.parametrize("told, message", [
    (dict(task="segno_1000"), "system is 'gravity', and task 'segno_1000' is about gravity_segnn; give system gravity"),
    (dict(task="egnn"), "system is 'gravity', and task 'egnn' is about charged; give system charged."),
    (dict(network="egnn", run="R2"), "network is 'egnn', which takes no remedy; switch filter_gain and "),
    (dict(task="egnn", system="charged", batch_size=4000), "batch_size is 4000, and there are 3000 worlds to train on"),
])
def test_what_does_not_fit_is_told(tmp_path, told, message):
    with pytest.raises(ValueError) as refused: run_experiment(**dict(run="R0", runs_dir=tmp_path, epochs=1) | told)
    assert message in str(refused.value) and not [*tmp_path.iterdir()]


def test_runs_of_before_are_read_as_they_were():
    run = Run(min((project_root() / "runs" / "painn").glob("*__R2_full")))
    assert not {"task", "network"} & run.about.keys()
    assert (run.config.task, run.config.network, run.config.batch_size) == ("next_frame", "painn", 128)
    assert list(run.metrics)[3:5] == ["pos_dt", "vel"] and "val_pos_dt" not in run.metrics
