"""What is written for a GPU, as far as it can be tried without one: devices, waiting, recorded steps, precision."""

import importlib
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.utils import get_total_norm
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from conftest import ROOT
from painn_nb.ablation import run_experiment
from painn_nb.data import held_out, painn_nbody
from painn_nb.gradients import Limits, total_norm
from painn_nb.process import can_compile
from painn_nb.recipes import RECIPES, build_model, resolve, resolve_device
from painn_nb.runs import Run
from painn_nb.sites import sites
from painn_nb.stabilizer import Remedies, stabilize
from painn_nb.tasks import TASKS
from painn_nb.trainer import evaluate, forward_backward, records_steps, trainer_nbody
from painn_nb.watch import watch

# A CPU build of PyTorch can pretend to have a GPU, but for the way back. It goes both ways with `lazy`.
FAKE = "cuda:0" if torch.backends.cuda.is_built() else "lazy:0"
READ_ON_HOST = {"_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2"}
small = dict(features=16, layers=1, n_rbf=8, batch_size=8, device="cpu")
module = {name: importlib.import_module(f"painn_nb.{name}") for name in ("reductions", "sites", "trainer", "watch")}


def tensors_in(*given): return [x for x in tree_leaves(given) if isinstance(x, torch.Tensor)]
def devices(*tensors): return {x.device for x in tensors}


class NoWaiting(TorchDispatchMode):
    "Refuses what a GPU would be waited for, and what a CUDA graph cannot hold: numbers to and from the host."

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        name = func._schema.name.split("::")[1]
        moved = name in ("_to_copy", "copy_") and len(devices(*tensors_in(args, out))) > 1
        if name in READ_ON_HOST or moved: raise AssertionError(f"{func} waits")
        return out


@contextmanager
def other_device(device, monkeypatch):
    "A device that is not the CPU, where nothing is computed. Sites are read there, too."
    for name in ("sites", "watch"): monkeypatch.setattr(module[name], "is_recorded", lambda: False)
    fake = FakeTensorMode(allow_non_fake_inputs=True) if device != "meta" else nullcontext()
    with torch.autograd.set_multithreading_enabled(False), fake: yield device


every_remedy = Remedies(**dict.fromkeys(Remedies.declared(), 0.5))

@pytest.mark.parametrize("device", ["meta", FAKE])
@pytest.mark.parametrize("run", [*RECIPES, "every remedy"])
def test_a_training_step_stays_on_its_device_and_waits_for_nothing(monkeypatch, device, run):
    config = resolve("R0" if run == "every remedy" else run, dtype="float32", **small)
    model, batch = build_model(config), next(painn_nbody(8, frames=3, unroll=2 if run == "R3" else 1))
    if run == "every remedy": stabilize(model, every_remedy)
    with other_device(device, monkeypatch), watch(model) as w:
        model.to(device)
        batch, limits = batch.like(model), Limits(config, model.parameters())
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
        for reading, norm in ((True, get_total_norm), (False, total_norm)):
            with NoWaiting():
                w.reading = reading
                numbers = forward_backward(model, batch, norm)
            assert not w.skipped
            limits(3.0)
            optimizer.step()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        read = [b for site in sites(model).values() for b in (site.value, site.before, site.entries)]
        made = [*batch.tensors, *numbers.values(), *model.parameters(), *gradients, *read]
        assert devices(*made) == {torch.device(device)}


def test_what_waits_is_noticed():
    x = torch.ones(3)
    waits = [lambda: x.sum().item(), lambda: bool(x[0]), lambda: x.nonzero(), lambda: x.masked_select(x > 0),
             lambda: x.to("meta"), lambda: torch.as_tensor(1.0, device="meta").copy_(x[0])]
    for waiting in waits:
        with pytest.raises(AssertionError, match="waits"), NoWaiting(): waiting()


def test_edge_lists_and_held_out_errors_stay_on_their_device(monkeypatch):
    "What depends on numbers is replaced: the check of an edge list, the degrees, and the errors on the host."
    config = resolve("R2", **small)
    model, batch = build_model(config), next(painn_nbody(1, frames=3))
    pairs = torch.tensor([[i, j] for i in range(5) for j in range(5) if i != j]).T
    monkeypatch.setattr(importlib.import_module("painn_nb.model"), "check_edge_index", lambda edges, nodes: None)
    monkeypatch.setattr(torch, "bincount", lambda x, minlength: x.new_full((minlength,), 4))
    monkeypatch.setattr(module["trainer"], "mean_errors", lambda errors: [x for e in errors for x in e.values()])
    with other_device(FAKE, monkeypatch):
        model.to(FAKE)
        out = model(*(x[0] for x in batch.like(model).inputs), pairs.to(FAKE))
        assert devices(*out, *evaluate(model, [batch])) == {torch.device(FAKE)}


class Graph:
    """A CUDA graph without a GPU: operations are noted while it is recorded, and done again, into the same memory.

    What the recorded step itself has computed is made NaN: a CUDA graph computes nothing while it is recorded."""
    made: list["Graph"] = []

    def __init__(self):
        self.operations, self.replays = [], 0
        Graph.made.append(self)

    def replay(self):
        self.replays += 1
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs))):
                    if is_new(old, args, kwargs): old.copy_(new)


def memories(*given): return {x.untyped_storage().data_ptr() for x in tensors_in(given)}
def is_new(x, *given): return isinstance(x, torch.Tensor) and not memories(x) & memories(*given)


class Recording(NoWaiting):
    def __init__(self, graph):
        super().__init__()
        self.operations = graph.operations

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = super().__torch_dispatch__(func, types, args, kwargs)
        self.operations.append((func, args, kwargs or {}, out))
        return out


@contextmanager
def recording(graph, stream):
    with Recording(graph): yield
    for _, args, kwargs, out in graph.operations:
        for x in tree_leaves(out):
            if is_new(x, args, kwargs) and x.is_floating_point(): x.detach().fill_(torch.nan)


@pytest.fixture
def recorded(monkeypatch):
    "Switches recording with `Graph` on or off. Sites are read as on a GPU: not on the host."
    for name in ("reductions", "sites"): monkeypatch.setattr(module[name], "on_host", lambda *x: None)
    stream = SimpleNamespace(wait_stream=lambda other: None)
    for name, stand_in in {"CUDAGraph": Graph, "graph": recording, "Stream": lambda device: stream,
                           "current_stream": lambda device: stream, "stream": lambda stream: nullcontext()}.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    monkeypatch.setattr(Graph, "made", [])
    def switch(on): monkeypatch.setattr(module["trainer"], "records_steps", lambda config, compiled: on)
    return switch


def trained_on(monkeypatch, batches):
    "Let runs draw these batches."
    monkeypatch.setitem(TASKS, "next_frame", replace(TASKS["next_frame"], train=batches))


@pytest.fixture(autouse=True)
def few_frames(monkeypatch):
    "Trajectories of 40 frames, quick to simulate."
    trained_on(monkeypatch, partial(painn_nbody, frames=40))


def spoilt(n, seed, start, **more):
    "Targets so large that in float32 the norm of finite gradients overflows at step 7, and the loss at steps 8 and 28."
    for step, batch in enumerate(painn_nbody(n, seed, start, frames=40, **more), start):
        factor = {7: 1e17, 8: 1e25, 28: 1e25}.get(step, 1)
        yield batch._replace(pos_dt=factor * batch.pos_dt, vel_next=factor * batch.vel_next)


def trained(folder, epochs=30, gain=1.0, compiled=False, **settings):
    "A run, how it ended, and its weights; `gain` is a factor on what the network says of velocities."
    config = resolve("R2", **small | dict(dtype="float32", debug_layer_stats_every=3) | settings, epochs=epochs)
    model, run = build_model(config), Run(folder)
    with torch.no_grad(): model.head.vel_change.out.weight.mul_(gain)
    folder.mkdir(exist_ok=True)
    return run, trainer_nbody(model, run, config, compiled), model.state_dict()


def assert_same(one, other):
    "To the last bit."
    (run, ended, weights), (run2, ended2, weights2) = one, other
    assert ended == ended2
    assert run.metrics.drop(columns="seconds").equals(run2.metrics.drop(columns="seconds"))
    assert (run.path / "layer_stats.jsonl").read_text() == (run2.path / "layer_stats.jsonl").read_text()
    for name, weight in weights.items(): assert torch.equal(weight, weights2[name]), name


@pytest.mark.parametrize("nonfinite, precision, lost",
                         [("stop", "full", 7), ("skip", "bfloat16", 7), ("rescale", "full", 8)])
def test_a_recorded_run_has_the_numbers_of_one_that_is_not(tmp_path, monkeypatch, recorded, nonfinite, precision, lost):
    "With steps that fail, captures every third step, all limits on gradients, and a rate that changes every step."
    trained_on(monkeypatch, spoilt)
    told = dict(nonfinite=nonfinite, precision=precision, lr_peak=1e-2, clip_gradients_zscore=1.0,
                clip_gradients_ratio=1.0, gain=1e5)
    recorded(False)
    plain = trained(tmp_path / "plain", **told)
    recorded(True)
    replayed = trained(tmp_path / "replayed", **told)
    assert_same(replayed, plain)
    run, ended, _ = plain
    assert ended.failure["step"] == lost and len(run.metrics) == (lost + 1 if nonfinite == "stop" else 30)
    reading, not_reading = Graph.made
    captured = [step for step in range(len(run.metrics)) if step % 3 == 0]
    assert (reading.replays, not_reading.replays) == (len(captured), len(run.metrics) - len(captured))
    assert run.stats.step.unique().tolist() == sorted({*captured, lost})


def test_a_recorded_run_goes_on_where_it_was(tmp_path, recorded):
    recorded(True)
    whole = trained(tmp_path / "whole")
    trained(tmp_path / "halves", epochs=13, checkpoint_seconds=0)
    assert_same(trained(tmp_path / "halves"), whole)


def test_a_run_is_recorded_on_a_gpu_where_it_is_long_and_not_too_large(monkeypatch):
    monkeypatch.setattr(module["trainer"], "resolve_device", lambda *told: torch.device("cuda"))
    def recorded(compiled=False, **settings): return records_steps(resolve("R2", **settings), compiled)
    assert recorded() and not recorded(epochs=10)
    assert not recorded(batch_size=4096) and recorded(True, batch_size=4096)


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_bfloat16_trains_as_full_precision_does(tmp_path, compiled):
    if compiled and not can_compile(): pytest.skip("torch.compile does not work here")
    told = dict(epochs=50, features=32, layers=2, batch_size=32, debug_layer_stats_every=1, compiled=compiled)
    full, short = (trained(tmp_path / p, precision=p, **told) for p in ("full", "bfloat16"))
    one, other = (run.metrics.loss for run, _, _ in (full, short))
    assert 1e-6 < abs(other[0] / one[0] - 1) < 0.01  # it is another precision
    assert other[-10:].mean() == pytest.approx(one[-10:].mean(), rel=0.03)
    assert other[-10:].mean() < 0.8 * other[:10].mean()
    for r, r2 in zip(full[0].captures[0].largest, short[0].captures[0].largest):
        assert r.site == r2.site and r2.value == pytest.approx(r.value, rel=0.03), r.site
    assert {weight.dtype for weight in short[2].values()} == {torch.float32}


def test_a_bfloat16_run_goes_on_bit_for_bit(tmp_path):
    whole = trained(tmp_path / "whole", precision="bfloat16")
    trained(tmp_path / "halves", epochs=13, checkpoint_seconds=0, precision="bfloat16")
    assert_same(trained(tmp_path / "halves", precision="bfloat16"), whole)


def test_held_out_errors_are_of_full_precision(tmp_path):
    run = run_experiment("R2", tmp_path, epochs=2, dtype="float32", precision="bfloat16", **small)
    assert run.config.precision == "bfloat16" and run.about["changed"]["precision"] == "bfloat16"
    assert run.summary["held_out"] == evaluate(run.model, held_out("test"))


def test_tf32_holds_while_training_only(tmp_path):
    config = resolve("R2", precision="tf32", dtype="float32", epochs=2, **small)
    model, seen = build_model(replace(config, precision="full")), []
    model.register_forward_hook(lambda *_: seen.append(torch.get_float32_matmul_precision()))
    trainer_nbody(model, Run(tmp_path), config)
    evaluate(model, [next(painn_nbody(8, frames=3))])
    assert seen == ["high", "high", "highest"] and torch.get_float32_matmul_precision() == "highest"


def test_tf32_is_for_gpus_that_know_it(monkeypatch):
    gpu = SimpleNamespace(device=torch.device("cuda", 0))
    ones = SimpleNamespace(cpu=lambda: SimpleNamespace(new_empty=lambda *size, device: gpu))
    monkeypatch.setattr(torch, "ones", lambda *size, device: ones)
    capability = iter([(8, 0), (7, 5)])
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: next(capability))
    assert resolve_device("cuda", "tf32") == gpu.device
    with pytest.raises(ValueError, match="precision is 'tf32', which cuda:0 does not know; use"):
        resolve_device("cuda", "tf32")


def test_the_benchmark_of_a_gpu_runs_on_a_cpu_too(monkeypatch):
    "Its functions, in small, and without what only a GPU knows."
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    gpu = importlib.import_module("gpu")
    assert gpu.check("cpu", runs=["R2"], modes=["eager"]) == {"R2 eager": 0}
    variants = {name: how for name, how in gpu.VARIANTS.items() if how.get("precision") != "tf32"}
    sizes = {name: size for name, size in small.items() if name != "batch_size"}
    rows = gpu.steps("R2", 4, variants, steps=6, warmup=2, **sizes)
    assert [row["variant"] for row in rows] == list(variants) and all(row["ms"] > 0 for row in rows)
