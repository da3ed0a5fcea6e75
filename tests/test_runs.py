"""Whole runs through papermill, and the run directory they leave."""

import json
import math
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import nbformat
import numpy as np
import pytest
import torch
from conftest import TINY

from painn_nb.ablation import resume_experiment, run_experiment
from painn_nb.data import painn_nbody
from painn_nb.diagnostics import first_nonfinite
from painn_nb.process import can_compile, compile_layers
from painn_nb.readings import from_record
from painn_nb.recipes import RECIPES, build_model, resolve
from painn_nb.records import Records
from painn_nb.runs import Run, provenance
from painn_nb.sites import sites
from painn_nb.sweeps import sweep
from painn_nb.trainer import forward_backward
from painn_nb.watch import examine

FILES = {"config.json", "layer_stats.jsonl", "metrics.jsonl", "summary.json", "report.md", "run.ipynb", "model.pt",
         ".run.lock"}
STATS = {"inter.scalar_msg_max", "inter.vector_msg_norm_max", "mix.mu_v_norm_max", "mix.dq_max", "mix.dmu_scale_max",
         "mix.dqmu_max", "mix.q_abs_max", "mix.mu_norm_max"}


def strict(text):
    "JSON as the standard has it: no NaN, no Infinity."
    def refuse(name): raise ValueError(name)
    return json.loads(text, parse_constant=refuse)


def only_run(folder):
    [run_dir] = (folder / "painn").iterdir()
    return Run(run_dir)


def check_run_dir(run, recipe):
    run_dir = run.path
    assert {p.name for p in run_dir.iterdir()} == FILES
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d__{recipe.name}", run_dir.name)
    config = strict((run_dir / "config.json").read_text())
    assert {k: config[k] for k in recipe.settings} == recipe.settings
    assert config["versions"]["torch"] == torch.__version__ and config["seed"] == 5 and config["device"] == "cpu"
    captures = [strict(line) for line in (run_dir / "layer_stats.jsonl").read_text().splitlines()]
    keys = {"step"} | {f"debug/L{k}.{s}" for k in range(2) for s in STATS}
    assert captures and all(keys < set(c) for c in captures)
    assert [c["step"] for c in captures] == list(range(0, 4, recipe.settings.get("debug_layer_stats_every", 1)))
    epochs = [strict(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [e["step"] for e in epochs] == [0, 1, 2, 3]
    assert all({"loss", "pos_dt", "vel", "grad_norm", "lr", "seconds"} <= set(e) for e in epochs)
    summary = strict((run_dir / "summary.json").read_text())
    assert summary["outcome"] == "completed" and summary["early_failure"] is None
    assert set(summary["held_out"]) == {"pos_dt", "vel"} and len(summary["top_metrics"]) == 6
    report = (run_dir / "report.md").read_text()
    assert report.startswith(f"## {recipe.name}\n\nRun dir: `")
    assert "- No NaN/Inf detected within captured steps.\n- Top metrics (max value @ step):\n" in report
    assert len(re.findall(r"^  - debug/L\d\.(?:inter|mix)\.\w+: [\d.e+-]+ @ \d+$", report, re.M)) == 6
    assert len(re.findall(r"^  - L\d: (?:\w+\.\w+=[\d.e+-]+@\d+(?:; )?){6}$", report, re.M)) == 2
    for heading in ("- Config: ", "- Early failure: none", "- Observations:"): assert heading in report
    assert f"`\n- Outcome: {run.verdict}\n- Config: " in report
    notebook = nbformat.read(run_dir / "run.ipynb", 4)
    [told] = [c.source for c in notebook.cells if any("parameters" in tag for tag in c.metadata.get("tags", []))]
    parameters = {line.partition("  #")[0] for line in told.splitlines()}
    assert {f'run = "{config["run"]}"', "seed = 5", "epochs = 4"} <= parameters
    outputs = [o for c in notebook.cells if c.cell_type == "code" for o in c.outputs]
    has_limits = "held" in set(run.stats.kind)
    assert sum("image/png" in o.get("data", {}) for o in outputs) == (4 if has_limits else 3)
    assert not [o for o in outputs if o.output_type == "error"]


@pytest.mark.parametrize("run", RECIPES)
def test_papermill_with_an_output_path(papermill, tmp_path, run):
    done = papermill(str(tmp_path / "out.ipynb"), run=run, runs_dir=tmp_path, seed=5, device="cpu", **TINY)
    assert done.returncode == 0, done.stderr
    check_run_dir(only_run(tmp_path), RECIPES[run])
    assert (tmp_path / "ABLATION.md").read_text().count(f"\n## {RECIPES[run].name}\n") == 1


def test_papermill_piped(papermill, tmp_path):
    done = papermill(run="R1", runs_dir=tmp_path, seed=5, device="cpu", **TINY)
    assert done.returncode == 0, done.stderr
    assert len(nbformat.reads(done.stdout, 4).cells) > 5
    check_run_dir(only_run(tmp_path), RECIPES["R1"])


@pytest.mark.parametrize("bad, message", [
    (dict(run="R9"), "the recipes are R0, R1, R2"),
    (dict(clip_mu=3), "did you mean clip_mu_norm"),
    (dict(clip_mu_norm=-1), "clip_mu_norm is -1; it must be greater than 0"),
    (dict(epochs=0), "epochs is 0; it must be greater than 0"),
    (dict(dtype="float16"), "float64"),
    (dict(device="abacus"), "this machine does not have"),
])
def test_bad_parameters_stop_before_anything_is_written(papermill, tmp_path, bad, message):
    done = papermill("/dev/null", **dict(run="R2", runs_dir=tmp_path / "runs") | TINY | bad)
    assert done.returncode == 1 and message in done.stderr
    assert not (tmp_path / "runs").exists()


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="runs_dir"): run_experiment("R2", runs_dir=tmp_path / "file", **TINY)


def test_an_explosion_is_a_result(papermill, tmp_path):
    "float32 and a learning rate far too large: exit code 0, the failure named, everything on disk."
    settings = dict(dtype="float32", lr_base=3e6, debug_layer_stats_every=3, seed=0)
    settings = TINY | settings | dict(run="R0", runs_dir=tmp_path, epochs=200)
    done = papermill("/dev/null", **settings)
    assert done.returncode == 0, done.stderr
    run = only_run(tmp_path)
    assert {p.name for p in run.path.iterdir()} == FILES
    summary, report = strict((run.path / "summary.json").read_text()), run.report
    failure = summary["early_failure"]
    assert summary["outcome"] == "exploded" and {"step", "site", "what"} <= set(failure)
    assert f"- Early failure: step {failure['step']}, {failure['site']}" in report
    assert report.index(f"It exploded at step {failure['step']}") < report.index("NaN/Inf detected")
    assert failure["step"] % 3 and run.stats.step.max() == failure["step"]  # no captured step, and yet a witness
    assert failure["site"] in failure["produced_by"] and failure["site"] == first_nonfinite(run.captures[-1]).site
    assert sorted(run.metrics.step) == list(range(failure["step"] + 1))


class Plant(torch.nn.Module):
    def __init__(self, value): super().__init__(); self.value = value
    def forward(self, x): return torch.full_like(x, self.value)


def test_infinite_captures_are_told_from_nan(tmp_path):
    "The first site that is not finite is the one at which a value was planted, in memory and in the file."
    model, records = build_model(resolve("R0", **TINY)), Records(tmp_path / "x.jsonl")
    batch = next(painn_nbody(8, frames=5))
    for value in (math.inf, math.nan):
        for name, site in sites(model).items():
            site.append(Plant(value))
            capture = examine(model, *batch.inputs)
            site.clear()
            records.append(capture)
            for seen in (capture, from_record(list(records)[-1])):
                first = first_nonfinite(seen)
                assert first.site == name
                np.testing.assert_equal(first.value, value)


def test_a_run_resumed_through_papermill_is_complete(papermill, tmp_path):
    run = run_experiment("R1", runs_dir=tmp_path, seed=5, device="cpu", **TINY)  # without a notebook
    for name in ("summary.json", "report.md"): (run.path / name).unlink()  # as if killed before its end
    done = papermill("/dev/null", resume=run.path)
    assert done.returncode == 0, done.stderr
    check_run_dir(run, RECIPES["R1"])
    refused = papermill("/dev/null", resume=run.path, run="R0")
    assert refused.returncode == 1 and "run is 'R0', and 'R1' in the run that is to go on" in refused.stderr


def test_two_runs_at_once_share_nothing_and_both_are_in_the_log(papermill, tmp_path):
    with ThreadPoolExecutor(2) as pool:
        def start(seed): return papermill("/dev/null", run="R2", runs_dir=tmp_path, seed=seed, **TINY)
        done = list(pool.map(start, (1, 2)))
    assert [d.returncode for d in done] == [0, 0], done
    runs = list((tmp_path / "painn").iterdir())
    log = (tmp_path / "ABLATION.md").read_text()
    assert len(runs) == 2 and all(log.count(f"/{r.name}`") == 1 for r in runs)
    assert log.startswith("# PaiNN Stabilization Ablation") and log.count("## Recommended Settings") == 1


@pytest.mark.slow
def test_a_sweep_runs_what_is_missing(tmp_path):
    jobs = [dict(run=run, seed=seed, **TINY) for run in ("R0", "R1") for seed in (0, 1)]
    some = sweep(jobs[:1], tmp_path)
    done = sweep(jobs, tmp_path)
    assert done[:1] == some and len(set(done)) == len(list((tmp_path / "painn").iterdir())) == 4
    assert [(run.config.seed, run.name) for run in done] == [(j["seed"], RECIPES[j["run"]].name) for j in jobs]


def test_captures_cost_one_transfer_and_none_when_off(tmp_path, monkeypatch):
    "Counted where tensors become Python numbers: one `tolist` per capture beside the one of the step's metrics."
    count = []
    tolist = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: count.append(1) or tolist(self))
    for every, expected in ((1, 4 + 4), (2, 4 + 2), (0, 4)):
        count.clear()
        run_experiment("R0", runs_dir=tmp_path, debug_layer_stats_every=every, **TINY)
        assert len(count) == expected


def test_an_ended_run_is_left_alone(tmp_path):
    def times(run): return {p.name: p.stat().st_mtime_ns for p in run.path.iterdir() if p.name != ".run.lock"}
    run = run_experiment("R1", runs_dir=tmp_path, **TINY)
    before = times(run)
    resume_experiment(run)
    assert times(run) == before
    with pytest.raises(ValueError, match="no run directory"): resume_experiment(tmp_path)


def test_a_run_knows_its_commit(tmp_path, monkeypatch):
    def git(*args):
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b", *args]
        subprocess.run(command, check=True, capture_output=True)
    def commit(): return provenance(torch.device("cpu"))["git_commit"]
    monkeypatch.setitem(provenance.__globals__, "project_root", lambda: tmp_path)
    git("init")
    (tmp_path / "a").write_text("1")
    git("add", "a")
    assert commit() is None
    git("commit", "-m", "first")
    first = commit()
    assert re.fullmatch("[0-9a-f]{40}", first)
    (tmp_path / "a").write_text("2")
    assert commit() == first + "+"


TRAINED = """
import sys
from painn_nb import run_experiment
run_experiment("R2", sys.argv[1], device="cpu", dtype=sys.argv[2], debug_layer_stats_every=int(sys.argv[3]), **{})
"""


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_trainings_of_one_seed_are_equal_to_the_last_bit(tmp_path, dtype):
    "In two processes, with one thread and with two, and whatever is captured."
    told = dict(epochs=6, features=64, layers=3, batch_size=64, seed=4)
    def trained(threads, every):
        folder, code = tmp_path / f"{threads}_{every}", TRAINED.format(told)
        env = os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
        command = [sys.executable, "-c", code, folder, dtype, str(every)]
        subprocess.run(command, check=True, env=env, capture_output=True)
        return only_run(folder)
    one, other = trained(1, 1), trained(2, 0)
    assert one.metrics.drop(columns="seconds").equals(other.metrics.drop(columns="seconds"))
    assert one.summary["held_out"] == other.summary["held_out"]
    weights = other.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in one.model.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("run", ["R2", "R3"])
def test_compiled_and_eager_differ_in_the_last_digits_only(run):
    if not can_compile(): pytest.skip("torch.compile does not work here")
    config = resolve(run, device="cpu", dtype="float64", features=16, layers=2)
    batch = next(painn_nbody(8, seed=0))
    def gradients(prepare):
        model = build_model(config)
        prepare(model)
        numbers = forward_backward(model, batch.like(model))
        return numbers, [p.grad for p in model.parameters() if p.grad is not None]
    eager, compiled = gradients(lambda model: None), gradients(compile_layers)
    for name, number in eager[0].items(): assert abs(compiled[0][name] / number - 1) < 1e-13, name
    assert len(eager[1]) == len(compiled[1])
    for one, other in zip(eager[1], compiled[1]): assert (one - other).abs().max() <= 1e-12 * one.abs().max()
