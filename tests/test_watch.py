"""Statistics under compilers, `vmap` and on networks that know nothing of sites; post-mortems of whole runs."""

import copy
import math
import shutil
import warnings

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from torch._dynamo.utils import counters

from painn_nb.data import painn_nbody
from painn_nb.model import PaiNN
from painn_nb.plots import plot_growth, plot_heatmap
from painn_nb.recipes import resolve
from painn_nb.runs import Run
from painn_nb.sites import sites
from painn_nb.stabilizer import stabilize
from painn_nb.watch import examine, watch

NO_COMPILER = pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
BACKENDS = ["aot_eager", pytest.param("inductor", marks=[NO_COMPILER, pytest.mark.slow])]


def network(seed=0, run="R2", **size):
    torch.manual_seed(seed)
    return stabilize(PaiNN(**dict(features=8, layers=1) | size).double(), resolve(run))


def inputs(speed=1.0):
    batch = next(painn_nbody(8, frames=5))
    return batch.charge, batch.pos, speed * batch.vel


def assert_same(got, want, rtol=1e-6):
    assert list(got) == list(want)
    np.testing.assert_allclose(list(got.values()), list(want.values()), rtol=rtol)


@pytest.fixture(autouse=True)
def fresh_compiler():
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("backend", BACKENDS)
def test_sites_read_the_same_compiled_without_breaks_or_recompiles(backend):
    model = network()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    compiled(*inputs())  # before anybody watches: the trap in which a hook silently never fires
    with torch.compiler.set_stance("fail_on_recompile"), watch(model) as w:
        for speed in (1, 100, 1e120, 1e200):  # calm, at its limits, where squares overflow, and lost
            sum(x.sum() for x in compiled(*inputs(speed))).backward()
            assert_same(w.read(0), examine(model, *inputs(speed)))
            w.reading = False; compiled(*inputs()); w.reading = True
    assert not counters["graph_break"]


@pytest.mark.parametrize("backend", BACKENDS)
def test_watch_reads_the_same_compiled_and_after_compiling(backend):
    net, x = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1)), torch.randn(5, 4)
    compiled = torch.compile(net, fullgraph=True, backend=backend)
    before = compiled(x)
    with watch(compiled) as w:
        compiled(x).sum().backward()
        got = w.read(0)
        with torch.compiler.set_stance("fail_on_recompile"):
            for w.reading in (False, True): compiled(x)
    assert_same(got, examine(net, x))
    assert torch.equal(compiled(x), before) and not list(net.buffers()) and not counters["graph_break"]


def test_a_compiled_step_around_the_model_is_not_silently_unread():
    net, x = nn.Sequential(nn.Linear(4, 4)), torch.randn(2, 4)
    step = torch.compile(lambda x: net(x).sum(), backend="aot_eager")
    step(x)
    with watch(net) as w:
        step(x)
        with pytest.raises(RuntimeError, match="compiled before `watch`"): w.read(0)
        torch.compiler.reset(); step(x)
        got = w.read(0)
    assert_same(got, examine(net, x))


@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_stacked_models_are_read_member_by_member(compiled):
    members = [network(seed) for seed in range(3)]
    params, buffers = torch.func.stack_module_state(members)
    base = copy.deepcopy(members[0]).to("meta")
    for site in sites(base).values(): site.reading = True
    run = torch.vmap(lambda p, b, x: torch.func.functional_call(base, (p, b), x), in_dims=(0, 0, None))
    if compiled: run = torch.compile(run, fullgraph=True, backend="aot_eager")
    with warnings.catch_warnings():
        if not compiled: warnings.simplefilter("error")  # among them: "no batching rule"
        run(params, buffers, inputs(30.0))
    for k, member in enumerate(members):
        for site in sites(member).values(): site.reading = True
        member(*inputs(30.0))
        for name, site in sites(member).items():
            for part in ("value", "before"):
                of_member = buffers[f"backbone.layers.{name}.{part}"][k]
                torch.testing.assert_close(of_member, getattr(site, part), equal_nan=True)


class EGNN(nn.Module):
    "A network in a few lines that returns a tuple, calls one module twice and has never heard of sites."
    def __init__(self):
        super().__init__()
        self.edge, self.coord, self.node = nn.Linear(9, 8), nn.Linear(8, 1), nn.Linear(12, 4)

    def forward(self, h, x):
        for _ in range(2):
            d = x[:, None] - x
            pairs = h[:, None].expand(-1, len(h), -1), h.expand(len(h), -1, -1)
            m = torch.tanh(self.edge(torch.cat([*pairs, d.square().sum(-1, keepdim=True)], -1)))
            x, h = x + (d * self.coord(m)).mean(1), h + self.node(torch.cat([h, m.sum(1)], -1))
        return h, x


class Residual(nn.Module):
    def __init__(self): super().__init__(); self.conv = nn.Conv2d(3, 3, 3, padding=1)
    def forward(self, x): return {"features": x + self.conv(x).relu(), "count": torch.tensor(1)}


TRANSFORMER = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True)
NETWORKS = [(EGNN(), lambda: (torch.randn(5, 4), torch.randn(5, 3)), "edge"),
            (Residual(), lambda: (torch.randn(2, 3, 8, 8),), "conv"),
            (TRANSFORMER, lambda: (torch.randn(2, 5, 8),), "linear1")]


@pytest.mark.parametrize("net, make, culprit", NETWORKS, ids=[type(n[0]).__name__ for n in NETWORKS])
def test_any_network_is_watched_as_ours_and_left_as_it_was(net, make, culprit, tmp_path):
    net = copy.deepcopy(net)
    state, outputs = copy.deepcopy(net.state_dict()), []
    handle = net.get_submodule(culprit).register_forward_hook(lambda m, args, out: outputs.append(out.detach()))
    with watch(net, run_dir=tmp_path) as w:
        for step in range(3):
            outputs.clear(); net(*make())
            record, seen = w.capture(step), torch.cat([o.flatten() for o in outputs])  # all calls of this pass together
            np.testing.assert_allclose(record[f"debug/{culprit}.max"], seen.abs().max(), rtol=1e-6)
            np.testing.assert_allclose(record[f"debug/{culprit}.rms"], seen.square().mean().sqrt(), rtol=1e-5)
        with torch.no_grad(): net.get_submodule(culprit).bias[0] = torch.nan
        net(*make()); w.capture(3)
    handle.remove()
    assert not list(net.buffers()) and not net._forward_pre_hooks and not any(m._forward_hooks for m in net.modules())
    assert list(net.state_dict()) == list(state)
    run, report = Run(tmp_path), Run(tmp_path).report
    assert run.outcome == "exploded" and run.failure["step"] == 3
    assert run.failure["produced_by"] == [culprit] and run.failure["passed_on_by"]
    for told in (f"- Early failure: step 3, {culprit}: activation is ", "passed on by", f"  - {culprit}: max="):
        assert told in report
    stats = run.stats
    assert plot_heatmap(stats, "max", Figure().gca()).get_yticklabels()
    assert plot_growth(stats, "rms", Figure().gca()).collections


def test_watch_picks_by_pattern_and_predicate_and_refuses_a_used_folder(tmp_path):
    net = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    def is_norm(name, m): return isinstance(m, nn.LayerNorm)
    for which, expected in (("linear?", {"linear1", "linear2"}), (is_norm, {"norm1", "norm2"})):
        with watch(net, which) as w: net(torch.randn(1, 2, 8)); assert {r.site for r in w.read(0).largest} == expected
    with watch(net, run_dir=tmp_path) as w: net(torch.randn(1, 2, 8)); w.capture(0)
    with pytest.raises(ValueError, match="holds captures already"), watch(net, run_dir=tmp_path): pass


def test_a_watched_run_that_crashes_keeps_its_captures(tmp_path):
    net = nn.Linear(2, 2)
    with pytest.raises(KeyError), watch(net, run_dir=tmp_path) as w:
        net(torch.ones(1, 2)); w.capture(0)
        raise KeyError
    assert len(Run(tmp_path).captures) == 1 and Run(tmp_path).ended and Run(tmp_path).report
    net(torch.ones(1, 2))
    assert not net._forward_hooks


def test_half_precision_and_autocast_are_read():
    net, x = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)), 10 * torch.randn(100, 64)
    want = examine(net, x)
    with torch.autocast("cpu", torch.bfloat16): assert_same(examine(net, x), want, rtol=0.05)
    assert_same(examine(copy.deepcopy(net).bfloat16(), x.bfloat16()), want, rtol=0.05)
    half = torch.compile(copy.deepcopy(net).bfloat16(), fullgraph=True, backend="aot_eager")
    with watch(half) as w: half(x.bfloat16()); assert_same(w.read(0), want, rtol=0.05)
    assert all(math.isfinite(v) for v in want.values())


def test_a_look_that_fails_leaves_compiled_code_compiled():
    compiled = torch.compile(nn.Linear(4, 4), backend="eager")
    compiled(torch.ones(2, 4))
    for wrong in (None, "model"):
        with pytest.raises(ValueError, match="give a torch.nn.Module"): examine(wrong, torch.ones(2, 4))
    with pytest.raises(ValueError, match="whole number"): examine(compiled, torch.ones(2, 4), step="a")
    assert torch._dynamo.eval_frame._stance.stance == "default"
