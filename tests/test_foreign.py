"""Networks that know nothing of painn_nb: what is read, who is named, what is attached, and what stays as it was."""

import copy
import io
import pickle
import random
import warnings
from contextlib import suppress
from dataclasses import dataclass
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import nn
from torch._subclasses import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from painn_nb.growth import degree
from painn_nb.post_mortem import post_mortem
from painn_nb.stabilizer import Clamp, ClipNorm, Scale, ScaledTanh, SoftClipNorm, attach, attached, detach
from painn_nb.watch import culprits, examine, watch


class Messages(nn.Module):
    "A layer that calls one module twice, uses weights of a module that it never calls, and returns a dict."
    def __init__(self):
        super().__init__()
        self.edge, self.norm, self.out = nn.Linear(6, 6), nn.LayerNorm(6), nn.Linear(6, 6)

    def forward(self, h):
        for _ in range(2): h = h + torch.tanh(self.edge(self.norm(h)))
        return {"h": nn.functional.linear(h, self.out.weight, self.out.bias), "n": len(h)}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.layers = nn.Linear(3, 6), nn.ModuleList(Messages() for _ in range(2))
        self.head = nn.Sequential(nn.BatchNorm1d(6), nn.Dropout(0.1), torch.jit.script(nn.Linear(6, 1)))

    def forward(self, x):
        h = self.embed(x)
        for layer in self.layers: h = layer(h)["h"]
        return self.head(h)


class Recurrent(nn.Module):
    def __init__(self): super().__init__(); self.lstm, self.head = nn.LSTM(3, 5, 2), nn.Linear(5, 1)
    def forward(self, x): return self.head(self.lstm(x)[0])


class Forces(nn.Module):
    "Energies and their gradient, so that training needs a second derivative."
    def __init__(self): super().__init__(); self.energy = nn.Sequential(nn.Linear(3, 8), nn.Softplus(), nn.Linear(8, 1))
    def forward(self, x):
        x = x.detach().requires_grad_()
        energy = self.energy(x)
        return torch.cat([energy, torch.autograd.grad(energy.sum(), x, create_graph=True)[0]], 1)


class Attention(nn.Module):
    "Attention with a mask of 0 and -inf, whose projection is used and never called."
    def __init__(self):
        super().__init__()
        self.up, self.attend = nn.Linear(3, 8), nn.MultiheadAttention(8, 2, dropout=0.1)

    def forward(self, x):
        x, mask = self.up(x), torch.full((len(x), len(x)), -torch.inf).triu(1)
        return self.attend(x, x, x, attn_mask=mask)[0]


NETWORKS = [Net, Recurrent, Forces, Attention]


def made(kind, seed=0):
    torch.manual_seed(seed)
    return kind(), torch.randn(7, 3)


def trained(kind, watched):
    "Weights, buffers and random numbers after five steps."
    net, x = made(kind)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    def step():
        net(x).square().mean().backward()
        optimizer.step(); optimizer.zero_grad()
    if not watched:
        for _ in range(5): step()
    else:
        with watch(net) as w:
            for k in range(5): step(); w.capture(k)
        assert not w.skipped
    return [*net.state_dict().values(), torch.random.get_rng_state()], list(net.state_dict())


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_watched_training_is_the_same_bit_for_bit(kind):
    (alone, keys), (beside, same_keys) = trained(kind, False), trained(kind, True)
    assert keys == same_keys and all(torch.equal(a, b) for a, b in zip(alone, beside))


def owners(net):
    "Each module that owns weights, with the one to be named: itself, or who uses it without a call."
    uncalled = {"layers.0.out": "layers.0", "layers.1.out": "layers.1", "attend.out_proj": "attend"}
    for name, module in net.named_modules():
        for weight, _ in module.named_parameters(recurse=False): yield name, weight, uncalled.get(name, name)


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_nan_in_any_weight_is_put_on_its_module(kind):
    for name, weight, culprit in owners(made(kind)[0]):
        net, x = made(kind)
        with torch.no_grad(): getattr(net.get_submodule(name), weight).view(-1)[0] = torch.nan
        with watch(net) as w: net(x)
        assert culprits(w.read(0))["produced_by"] == [culprit], (name, weight)
        failure = post_mortem(net, lambda net=net, x=x: net(x).sum())
        assert (failure["produced_by"], failure["cause"]) == ([culprit], "weight"), (name, weight)


@pytest.mark.parametrize("kind", NETWORKS)
def test_an_operation_that_fails_is_put_on_its_module(kind):
    class Fails(nn.Module):
        def forward(self, *given): return given[0] / 0 * 0
    net, x = made(kind)
    name = {Net: "layers.1.norm", Recurrent: "head", Forces: "energy.1", Attention: "up"}[kind]
    parent, _, child = name.rpartition(".")
    setattr(net.get_submodule(parent), child, Fails())
    if kind is Attention: net.forward = lambda x: net.up(x)
    with watch(net) as w: net(x)
    failure = culprits(w.read(0))
    assert (failure["produced_by"], failure["cause"]) == ([name], "operation")
    failure = post_mortem(net, lambda: net(x).sum())
    assert (failure["produced_by"], failure["cause"]) == ([name], "operation")


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_post_mortem_leaves_everything_as_it_was(kind):
    net, x = made(kind)
    with torch.no_grad(): next(net.parameters())[0] = torch.nan
    before, drawn = copy.deepcopy(net.state_dict()), torch.random.get_rng_state()
    assert post_mortem(net, lambda: net(x).sum())["cause"] == "weight"
    for name, value in net.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0, equal_nan=True)
    assert torch.equal(torch.random.get_rng_state(), drawn) and all(p.grad is None for p in net.parameters())


def test_copies_and_files_of_a_watched_model_are_clean():
    net, x = nn.Sequential(nn.Linear(3, 3), nn.Tanh()), torch.randn(2, 3)
    averaged = torch.optim.swa_utils.AveragedModel(net)
    with watch(net) as w:
        net(x)
        twin, file = copy.deepcopy(net), io.BytesIO()
        pickle.loads(pickle.dumps(net)); torch.save(net, file); averaged.update_parameters(net)
        assert w.read(0)
    for model in (net, twin):
        assert not list(model.buffers()) and not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.jacfwd, torch.vmap,
                                       lambda f: torch.func.grad(lambda x: f(x).sum())])
def test_functional_transforms_are_watched(transform):
    net, x = nn.Sequential(nn.Linear(3, 4), nn.Tanh()), torch.randn(5, 3)
    want = transform(net)(x)
    with watch(net) as w: got = transform(net)(x)
    assert torch.equal(got, want) and not w.skipped
    assert w.read(0)["debug/0.max"] == pytest.approx(net[0](x).abs().max().item(), rel=1e-5)


@dataclass
class Out:
    energy: torch.Tensor
    wave: torch.Tensor


class Odd(nn.Module):
    "Sparse inputs, complex and dataclass outputs, weights in int8, a number type of its own."
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(3, 3)
        self.quantized = nn.Parameter(torch.ones(2, dtype=torch.int8), requires_grad=False)

    def forward(self, adjacency, x):
        h = (adjacency @ self.linear(x)).double() * 1e50
        return Out(h, torch.complex(h, 0 * h))


def test_what_is_unusual_is_read_or_left_out():
    net, x = Odd(), torch.randn(3, 3)
    with watch(net) as w: out = net(torch.eye(3).to_sparse(), x)
    record = w.read(0)
    assert record["debug/Odd().max"] == pytest.approx(out.energy.abs().max().item()) and not culprits(record)
    with watch(net) as w: net(torch.eye(0).to_sparse(), torch.zeros(0, 3))
    assert w.read(0)["debug/linear.max"] == 0 and not w.skipped


class Broken(dict):
    def values(self): raise OSError("not today")


def test_what_cannot_be_read_is_listed_and_breaks_nothing():
    class Strange(nn.Module):
        def forward(self, x): return Broken(x=x)
    net = nn.Sequential(nn.Linear(2, 2), Strange())
    with watch(net) as w: net(torch.ones(1, 2))
    assert "OSError: not today" in w.skipped["1"] and w.read(0)["debug/0.max"] > 0


def test_a_part_that_is_called_alone_is_judged_step_by_step():
    net, x = nn.ModuleDict({"a": nn.Linear(4, 4)}), torch.randn(2, 4)
    with watch(net) as w:
        net["a"](x * torch.nan)
        first = w.capture(0)
        net["a"](x)
        assert culprits(first)["cause"] == "input" and culprits(w.capture(1)) is None


@pytest.mark.parametrize("attached", [False, True])
def test_half_precision_is_forecast_at_its_own_limit(attached):
    net = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 1))
    with torch.no_grad(): net[0].weight.fill_(1)
    if attached: attach(net, "0", lambda: Clamp(1e9))
    with warnings.catch_warnings(record=True) as told, watch(net, "0") as w, torch.no_grad():
        warnings.simplefilter("always")
        for step in range(13):
            with torch.autocast("cpu", torch.float16): net[0](torch.full((1, 4), 2.0**step))
            w.capture(step)
    assert "at step 7, 0 is on its way to overflow at step 14" in str(told[0].message)


def test_the_way_back_is_told_from_the_loss():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), torch.randn(2, 4)
    failure = post_mortem(net, lambda: (net(x) * 0).abs().sqrt().sum())
    assert failure["site"] == "loss" and failure["what"].startswith("gradient is")


class Layer(nn.Module):
    def __init__(self): super().__init__(); self.net = nn.Linear(8, 8, bias=False)
    def forward(self, q, mu): return {"q": q + self.net(q), "mu": 100 * self.net(mu)}


class Equivariant(nn.Module):
    def __init__(self): super().__init__(); self.layers = nn.ModuleList(Layer() for _ in range(2))
    def forward(self, q, mu):
        for layer in self.layers: q, mu = layer(q, mu).values()
        return q, mu


@pytest.mark.parametrize("compiled", [False, True])
def test_a_stabilizer_on_somebody_elses_output(compiled):
    torch.manual_seed(0)
    net, given = Equivariant().double(), (torch.randn(5, 8).double(), torch.randn(5, 3, 8).double())
    run = torch.compile(net, fullgraph=True, backend="aot_eager") if compiled else net
    before, keys = run(*given), list(net.state_dict())
    attach(net, "layers.?", lambda: ClipNorm(10.0), output="mu", vector=True)
    with watch(run) as w: q, mu = run(*given)
    record = w.read(0)
    assert record["debug/layers.1.mu_norm_max"] <= 10 < record["debug/layers.1.mu_before_clip_norm"]
    assert record["debug/layers.1.mu_held_by_clip_norm"] > 0 and list(net.state_dict()) == keys
    turn, _ = torch.linalg.qr(torch.randn(3, 3).double())
    torch.testing.assert_close(run(given[0], turn @ given[1])[1], turn @ mu)
    assert torch.equal(q, before[0]) and mu.norm(dim=1).max() <= 10
    detach(net)
    assert torch.equal(run(*given)[1], before[1]) and not attached(net)


def test_examine_shows_all_modules_of_a_network_and_its_attached_sites():
    net, given = Equivariant(), (torch.randn(5, 8), torch.randn(5, 3, 8))
    attach(net, "layers.0", lambda: ClipNorm(1.0), output="mu", vector=True)
    assert {r.site for r in examine(net, *given).largest} == {
        "layers.0.mu", "layers.0.net", "layers.0", "layers.1.net", "layers.1", "Equivariant()"}


class Adds(nn.Module):
    "As a layer of an equivariant network: it adds to scalars and to vectors."
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 4)

    def forward(self, h, v): return h + self.l(h), v + 0.1 * self.l(v)


def test_updates_are_damped_compiled_under_transforms_and_where_nothing_comes_in():
    net, h, v = Adds(), torch.randn(2, 1, 4), torch.randn(2, 3, 4)
    plain = net(h, v)
    for output in (0, 1): attach(net, "Adds()", lambda: Scale(0.5), output=output, vector=output == 1, update=True)
    for damped in (net(h, v), torch.compile(net, fullgraph=True, backend="eager")(h, v), torch.vmap(net)(h, v)):
        for x, y, z in zip((h, v), plain, damped): torch.testing.assert_close(z - x, 0.5 * (y - x))
    assert [x.numel() for x in net(h[:0], v[:0])] == [0, 0]
    detach(net)
    assert all(map(torch.equal, net(h, v), plain))


class FromForces(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(3, 1)

    def forward(self, batch):
        pos = batch["pos"].detach().requires_grad_()
        return torch.autograd.grad(self.l(pos).square().sum(), pos, create_graph=True)[0]


def test_growth_is_told_of_networks_with_forces_and_batches_that_are_dicts():
    batch = {"pos": torch.randn(4, 3), "z": torch.arange(4)}
    for scaled in (None, 0, "pos"):
        assert abs(degree(FromForces(), batch, scaled=scaled).exponent["FromForces()"] - 1) < 0.1


def two():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1))


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.vmap])
def test_a_site_that_was_attached_is_read_under_transforms(transform):
    net, x = two(), torch.randn(5, 4)
    attach(net, "0", lambda: Clamp(0.25))
    alone = transform(net)(x)
    with watch(net) as w: assert torch.equal(transform(net)(x), alone)
    read = w.read(0)
    assert not w.skipped and read["debug/0_max"] == 0.25 and read["debug/0_held_by_clamp"] > 0


def test_a_site_may_hold_complex_numbers_and_one_that_cannot_be_read_is_listed():
    class Turns(nn.Module):
        def forward(self, x): return torch.complex(3 * x, 4 * x)
    net = nn.Sequential(Turns())
    attach(net, "0", lambda: Scale(0.5))
    with watch(net) as w: net(torch.full((2, 2), 2.0))
    assert w.read(0)["debug/0_max"] == 5
    with watch(net) as w, patch("painn_nb.sites.measure", side_effect=OSError("not today")): net(torch.ones(2, 2))
    assert "OSError: not today" in w.skipped["0"] and "debug/0_max" not in w.read(0)


def test_a_stabilizer_attached_in_inference_mode_trains():
    net = two()
    with torch.inference_mode(): attach(net, "0", lambda: Clamp(0.5))
    with watch(net) as w: net(torch.randn(5, 4)).sum().backward()
    assert w.read(0)["debug/0_max"] <= 0.5 and net[0].weight.grad.isfinite().all()


class ByList(nn.Module):
    def __init__(self):
        super().__init__()
        self.weights = nn.ParameterList([nn.Parameter(torch.eye(4)) for _ in range(2)])

    def forward(self, x): return x @ self.weights[0] @ self.weights[1]


@pytest.mark.parametrize("which", [None, "0"])
def test_weights_without_calls_of_their_own_are_the_cause_in_whoever_uses_them(which):
    net = nn.Sequential(ByList(), nn.Linear(4, 1))
    with torch.no_grad(): net[0].weights[1][0, 0] = torch.nan
    with watch(net, which) as w: net(torch.ones(2, 4))
    found = culprits(w.read(0))
    assert (found["site"], found["cause"]) == ("0", "weight")


def test_weights_that_are_put_in_for_one_call_are_judged():
    net = two()
    bad = {name: p.detach().clone() for name, p in net.named_parameters()}
    bad["0.weight"][0, 0] = torch.nan
    many = {name: torch.stack([p.detach(), bad[name]]) for name, p in net.named_parameters()}
    x = torch.ones(2, 4)
    for call in (lambda: torch.func.functional_call(net, bad, x),
                 lambda: torch.vmap(lambda some: torch.func.functional_call(net, some, x))(many)):
        with watch(net) as w: call()
        found = culprits(w.read(0))
        assert (found["site"], found["cause"], w.skipped) == ("0", "weight", {})


def test_a_buffer_that_is_infinite_on_purpose_is_no_cause():
    class Best(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("best", torch.tensor(torch.inf))

        def forward(self, x): return torch.exp(1000 * x)
    net = nn.Sequential(Best(), nn.Linear(4, 1))
    assert culprits(examine(net, torch.ones(2, 4)))["cause"] == "operation"


@pytest.mark.parametrize("compiled", [False, True])
def test_what_a_stabilizer_saves_is_no_failure(compiled):
    net, x = two(), torch.full((2, 4), 5.0)
    with torch.no_grad(): net[0].weight.fill_(3e38)
    attach(net, "0", lambda: Clamp(1.0))
    if compiled: net[1] = torch.compile(net[1], backend="eager")
    with watch(net) as w: net(x)
    read = w.read(0)
    assert culprits(read) is None and read["debug/0.max"] == 1 and read["debug/0_before_clamp"] == torch.inf


def steep(): return nn.Sequential(nn.Linear(4, 4), Cliff(), nn.Linear(4, 1))


class Cliff(nn.Module):
    def forward(self, x): return (x - x).sqrt()


@pytest.mark.parametrize("reentrant", [False, True])
def test_a_post_mortem_goes_back_through_checkpoints(reentrant):
    net, x = steep(), torch.randn(2, 4, requires_grad=True)
    failure = post_mortem(net, lambda: checkpoint(net, x, use_reentrant=reentrant).sum())
    assert failure["site"] == "1" and all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize("net, site", [(two(), None), (steep(), "1")])
def test_a_post_mortem_of_a_loss_that_goes_back_itself_leaves_gradients(net, site):
    def loss():
        total = net(torch.ones(2, 4)).sum()
        total.backward()
        return total.detach()

    for p in net.parameters(): p.grad = torch.ones_like(p)
    failure = post_mortem(net, loss)
    assert (failure and failure["site"]) == site
    assert all((p.grad == 1).all() for p in net.parameters())


def test_a_post_mortem_looks_into_transforms_and_leaves_all_random_numbers():
    net, x = two(), torch.randn(2, 4)
    with torch.no_grad(): net[1].weight[0, 0] = torch.nan
    states = random.getstate(), np.random.get_state()[2]
    failure = post_mortem(net, lambda: torch.vmap(net)(x).sum() * np.random.rand() * random.random())
    assert (failure["site"], failure["cause"]) == ("1", "weight")
    assert (random.getstate(), np.random.get_state()[2]) == states


def test_strengths_beyond_half_precision_leave_what_is_small():
    x = torch.randn(2, 3, 4).half()
    for kind in (ScaledTanh, Clamp, ClipNorm, SoftClipNorm): assert torch.equal(kind(1e5)(x), x)


def test_parts_without_numbers_yet_or_at_all_are_watched():
    for first in (nn.LazyLinear(4), nn.Linear(4, 4, device="meta")):
        net = nn.Sequential(first, nn.Linear(4, 1))
        run = net[1] if first.weight.is_meta else net
        with watch(net) as w:
            run(torch.ones(2, 4)).sum().backward()
            w.capture(0)
            with torch.no_grad(): net[1].weight.mul_(2)
            run(torch.ones(2, 4))
        assert w.capture(1)["debug/1.update_ratio"] > 0 and not w.skipped


def test_copies_files_and_traces_made_while_compiled_parts_are_watched():
    net, x = nn.Sequential(torch.compile(nn.Linear(4, 4), backend="eager"), nn.Linear(4, 1)), torch.ones(2, 4)
    with watch(net) as w:
        torch.save(net, file := io.BytesIO())
        twin = copy.deepcopy(net)
        file.seek(0)
        for other in (twin, torch.load(file, weights_only=False)): assert torch.equal(other(x), net(x))
        w.capture(0)
        twin(x)
        with pytest.raises(RuntimeError, match="no watched module has run"): w.capture(1)
    plain = two()
    attach(plain, "0", lambda: Clamp(0.5))
    operations = [node.kind() for node in torch.jit.trace(plain, x).inlined_graph.nodes()]
    with watch(plain): traced = torch.jit.trace(plain, x).inlined_graph
    assert [node.kind() for node in traced.nodes()] == operations


def test_attach_takes_torchs_own_tuples_and_second_names_and_refuses_what_cannot_be():
    class Most(nn.Module):
        def forward(self, x): return torch.max(x, -1)
    for output in (0, -2, "values"):
        net = Most()
        attach(net, "Most()", lambda: Clamp(0.5), output=output)
        assert (net(torch.ones(3, 4)).values == 0.5).all()
    linear = nn.Linear(4, 4)
    assert attach(nn.ModuleDict({"a": linear, "b": linear}), "b", lambda: Clamp(1.0)) == ["b"]
    for given in (5, "vv"):
        with pytest.raises(ValueError, match=f"input is {given!r}, and Linear takes input."):
            attach(linear, "Linear()", lambda: Clamp(1.0), input=given)
    with pytest.raises(ValueError, match="l is a ModuleList, which is never called; name its parts, as l.*"):
        attach(nn.ModuleDict({"l": nn.ModuleList([linear])}), "l", lambda: Clamp(1.0))


def test_a_capture_in_the_middle_of_a_forward_pass_loses_no_module():
    net = two()
    with watch(net) as w:
        handle = net[0].register_forward_hook(lambda *told: w.capture(0) and None)
        net(torch.ones(2, 4))
        handle.remove()
        net(torch.ones(2, 4))
        assert {r.site for r in w.capture(1).largest} == {"0", "1", "Sequential()"} and not w.skipped


@pytest.mark.parametrize("attached_too", [False, True])
def test_transforms_inside_of_compiled_code_are_left_alone(attached_too):
    net, x = two(), torch.randn(5, 4)
    if attached_too: attach(net, "0", lambda: Clamp(0.25))
    alone, slopes = torch.vmap(net)(x), torch.func.jacrev(net)(x)
    with watch(net) as w:
        torch.testing.assert_close(torch.compile(torch.vmap(net), backend="eager", fullgraph=True)(x), alone)
        torch.testing.assert_close(torch.vmap(torch.compile(net, backend="eager"))(x), alone)
        torch.testing.assert_close(torch.compile(torch.func.jacrev(net), backend="eager")(x), slopes)
        net(x)
    assert w.read(0)["debug/0.max"] > 0 and not w.skipped


@pytest.mark.parametrize("compiled", [False, True])
def test_what_happens_to_weights_within_one_capture(compiled):
    net, x = two(), torch.ones(2, 4)
    run = torch.compile(net, backend="eager") if compiled else net
    with watch(run) as w:
        run(x)
        with torch.no_grad(): net[1].weight.fill_(torch.nan)
        run(x)
    found = culprits(w.read(0))
    assert (found["site"], found["cause"]) == ("1", "weight")


class Overflows(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(4, 4)

    def forward(self, x): return torch.exp(1e4 * (1 + self.l(x).abs()))


@pytest.mark.parametrize("compiled", [False, True])
def test_weights_that_were_lost_later_are_no_cause(compiled):
    net, x = nn.Sequential(Overflows()), torch.ones(2, 4)
    run = torch.compile(net, backend="eager") if compiled else net
    with watch(run) as w:
        run(x)
        with torch.no_grad(): net[0].l.weight.fill_(torch.inf)
        run(x)
    found = culprits(w.read(0))
    assert (found["site"], found["cause"]) == ("0", "operation")


@pytest.mark.parametrize("training", [False, True])
def test_a_look_between_a_forward_and_its_backward_pass_breaks_neither(training):
    net, x = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4).train(training), nn.Linear(4, 1)), torch.randn(3, 4)
    total = net(x).sum()
    running = net[1].running_mean
    before = running.clone()
    examine(net, x)
    post_mortem(net, lambda: net(x).sum())
    total.backward()
    assert net[1].running_mean is running and torch.equal(running, before)


def test_a_call_that_ends_in_an_error_has_ended():
    class Refuses(nn.Module):
        def forward(self, x): raise ValueError

    class Goes(nn.Module):
        def __init__(self):
            super().__init__()
            self.bad, self.l = Refuses(), nn.Linear(4, 4)

        def forward(self, x):
            with suppress(ValueError): x = self.bad(x)
            return self.l(x) * 0 / 0

    net, x = Goes(), torch.ones(2, 4)
    assert post_mortem(net, lambda: net(x).sum())["site"] == culprits(examine(net, x))["site"] == "Goes()"


def test_weights_that_share_their_memory_are_told_apart():
    net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 1))
    nn.utils.vector_to_parameters(nn.utils.parameters_to_vector(net.parameters()), net.parameters())
    for name, p in net.named_parameters():
        kept = p.detach().clone()
        with torch.no_grad(): p.view(-1)[0] = torch.nan
        assert f"weight {name}, which" in post_mortem(net, lambda: net(torch.ones(2, 4)).sum())["what"]
        with torch.no_grad(): p.copy_(kept)


def test_inputs_by_keyword_that_are_overwritten_are_read_as_they_came():
    class Normed(nn.Module):
        def forward(self, h):
            h -= h.mean(-1, keepdim=True)
            h /= h.std(-1, keepdim=True)
            return h

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.norm = nn.Linear(4, 4), Normed()

        def forward(self, x): return self.norm(h=self.up(x))

    net = Outer()
    with torch.no_grad(): net.up.weight.zero_(), net.up.bias.zero_()
    with watch(net) as w, torch.no_grad(): net(torch.randn(3, 4))
    assert culprits(w.read(0))["site"] == "norm"


@pytest.mark.parametrize("attached_too", [False, True])
def test_looks_in_the_middle_of_a_watch_are_not_in_its_captures(attached_too):
    net, x = two(), torch.randn(3, 4)
    if attached_too: attach(net, "0", lambda: Scale(1.0))
    with watch(net) as w:
        net(x)
        healthy = dict(w.capture(0))
        net(x)
        degree(net, x, doublings=140)
        post_mortem(net, lambda: net(x / 0).sum())
        assert dict(w.capture(0)) == healthy


def test_buffers_of_every_kind_are_left_as_they_are():
    class Expanded(nn.Linear):
        def __init__(self):
            super().__init__(4, 4)
            self.register_buffer("b", torch.ones(1).expand(4))

        def forward(self, x): return super().forward(x) * self.b

    net, x = Expanded(), torch.ones(2, 4)
    with torch.inference_mode(): net.register_buffer("made_there", torch.ones(3))
    examine(net, x)
    assert post_mortem(net, lambda: net(x).sum()) is None
    with torch.inference_mode():
        context = watch(net)
        w = context.__enter__()
    net(x)
    assert w.read(0)["debug/Expanded().max"] > 0
    context.__exit__(None, None, None)


def test_sparse_gradients_are_looked_at():
    net = nn.Sequential(nn.Embedding(10, 4, sparse=True), nn.Linear(4, 1))
    assert post_mortem(net, lambda: net(torch.arange(3)).sum()) is None
    with torch.no_grad(): net[1].weight.fill_(3e38)
    assert post_mortem(net, lambda: 0 * net(torch.arange(3)).sum() + net[0](torch.arange(3)).sum()) is not None


def test_an_update_of_nothing_stays_nothing_and_calls_may_hold_each_other():
    net, x = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5)), torch.ones(2, 4)
    attach(net, "1", lambda: Scale(0.5), update=True)
    net(x)
    assert torch.equal(net.eval()(x), net[0](x))

    class Adds1(nn.Module):
        def forward(self, x): return x.add_(1)

    attach(adds := nn.Sequential(Adds1()), "0", lambda: Scale(0.5), update=True)
    with pytest.raises(ValueError, match="adds in place"): adds(torch.ones(2))

    class Again(nn.Module):
        def __init__(self):
            super().__init__()
            self.l = nn.Linear(4, 4)

        def forward(self, x, depth=0): return x + (self.l(x) if depth == 2 else self(self.l(x), depth + 1))

    again = nn.Sequential(Again())
    alone = again(x)
    attach(again, "0", lambda: Scale(1.0), input=0, update=True)
    torch.testing.assert_close(again(x), alone)
    for model in (net, again):
        detach(model)
        assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_sequences_of_many_lengths_are_read_and_stabilized():
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2).eval()
    x, mask = torch.randn(2, 5, 8), torch.tensor([[0, 0, 0, 1, 1], [0, 0, 0, 0, 1]]).bool()
    attach(net, "layers.1", lambda: Clamp(0.5))
    with torch.no_grad(), watch(net) as w: out = net(x, src_key_padding_mask=mask)
    read = w.read(0)
    assert out.abs().max() == 0.5 == read["debug/layers.1_max"] < read["debug/layers.0.max"] and not w.skipped


def test_recorders_of_networks_record_no_readings():
    def plain(): return two().requires_grad_(False)
    def sizes(net):
        exported, traced = torch.export.export(net, (torch.ones(2, 4),)), make_fx(net)(torch.ones(2, 4))
        return len(exported.graph.nodes), len(traced.graph.nodes)
    net = plain()
    alone = sizes(net)
    with watch(net) as w:
        assert sizes(net) == alone
        with FakeTensorMode(allow_non_fake_inputs=True) as fake: net(fake.from_tensor(torch.ones(2, 4)))
        net(torch.ones(2, 4))
    assert not w.skipped and w.read(0)["debug/0.max"] > 0


def test_copies_made_inside_of_a_watch_are_not_read():
    attach(net := two(), "0", lambda: Clamp(0.5))
    with watch(net): twin = copy.deepcopy(net)
    assert not any(site.reading for site in attached(twin).values())
    with pytest.raises(ValueError, match="vector is 'abc'; expected an axis"), watch(net, vector={"0": "abc"}): pass


def test_a_module_that_hands_on_its_own_weight_is_named():
    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.ones(4))

        def forward(self): return self.table

    class Adds(nn.Module):
        def __init__(self):
            super().__init__()
            self.table, self.l = Table(), nn.Linear(4, 4)

        def forward(self, x): return self.l(x) + self.table()

    net, x = Adds(), torch.ones(2, 4)
    with torch.no_grad(): net.table.table[0] = torch.nan
    failure = post_mortem(net, lambda: net(x).sum())
    assert failure["cause"] == "weight" and "weight table.table" in failure["what"]
    assert culprits(examine(net, x))["cause"] == "weight"
