"""Symmetries, graphs, gradients and compiled code of PaiNN, for any remedies."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from painn_nb import model as model_module
from painn_nb.model import EdgeList, PaiNN, edges_within
from painn_nb.recipes import resolve
from painn_nb.reductions import measure
from painn_nb.sites import sites
from painn_nb.stabilizer import Clamp, ClipNorm, Remedies, ScaledTanh, attach, stabilize
from painn_nb.watch import watch

seeds = st.integers(0, 2**32 - 1)
strength = st.floats(0.05, 20)
any_remedies = st.builds(Remedies, **{name: st.none() | strength for name in Remedies.declared()})  # None: off
every_remedy = Remedies(**dict.fromkeys(Remedies.declared(), 0.1))
relaxed = settings(max_examples=30, deadline=None)
untreated = Remedies()


def world(seed, n=4, batch=2):
    "Charges, positions and velocities of a batch, a rotation or reflection, and a shift."
    g = torch.Generator().manual_seed(seed)
    def draw(*shape): return torch.randn(*shape, generator=g, dtype=torch.float64)
    return draw(batch, n), 2 * draw(batch, n, 3), 2 * draw(batch, n, 3), torch.linalg.qr(draw(3, 3))[0], draw(3)


def network(seed, remedies=untreated, **kwargs):
    torch.manual_seed(seed)
    return stabilize(PaiNN(**dict(features=8, layers=3, n_rbf=8) | kwargs).double(), remedies)


def all_pairs(worlds, n):
    "The edges of fully connected worlds, ordered by receiver, then sender."
    pairs = [[b * n + j, b * n + i] for b in range(worlds) for i in range(n) for j in range(n) if i != j]
    return torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T


def flat(*args): return [x.flatten(0, 1) for x in args]


def assert_same(a, b):
    "Equal to 1e-10, relative to the largest value."
    for x, y in zip(a, b, strict=True): assert (x - y).abs().max() <= 1e-10 * max(1.0, x.abs().max().item())


@relaxed
@given(remedies=any_remedies, seed=seeds, aggregation=st.sampled_from(["mean", "sum"]), edge_charges=st.booleans())
def test_rotations_reflections_translations(remedies, seed, aggregation, edge_charges):
    charge, pos, vel, rotation, shift = world(seed)
    model = network(seed, remedies, aggregation=aggregation, edge_charges=edge_charges)
    for turn in (rotation, -rotation):  # one of the two is a reflection
        assert_same([x @ turn for x in model(charge, pos, vel)], model(charge, pos @ turn + shift, vel @ turn))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_equivariance_in_each_dtype(dtype, tolerance):
    charge, pos, vel, rotation, _ = (x.to(dtype) for x in world(5))
    model = network(5).to(dtype)
    for a, b in zip(model(charge, pos, vel), model(charge, pos @ rotation, vel @ rotation)):
        assert (a @ rotation - b).abs().max() <= tolerance * max(1, a.abs().max())


@relaxed
@given(remedies=any_remedies, seed=seeds)
def test_permutations(remedies, seed):
    charge, pos, vel, _, _ = world(seed)
    model, order = network(seed, remedies, edge_charges=bool(seed % 2)), torch.randperm(4)
    assert_same([x[:, order] for x in model(charge, pos, vel)], model(charge[:, order], pos[:, order], vel[:, order]))


@relaxed
@given(remedies=any_remedies, seed=seeds, aggregation=st.sampled_from(["mean", "sum"]), n=st.integers(1, 5))
def test_complete_worlds_equal_their_edge_list(remedies, seed, aggregation, n):
    "Values, and the gradients of inputs and weights, of the two ways to describe the same graph."
    charge, pos, vel, _, _ = world(seed, n)
    model, results = network(seed, remedies, aggregation=aggregation, edge_charges=bool(seed % 2)), []
    for inputs, edge_index in (((charge, pos, vel), None), (flat(charge, pos, vel), all_pairs(2, n))):
        inputs = [x.clone().requires_grad_() for x in inputs]
        out = model(*inputs, edge_index)
        total = sum(x.square().sum() for x in out)
        grads = torch.autograd.grad(total, [*inputs, *model.parameters()], materialize_grads=True)
        results.append([x.reshape(-1, 3) for x in out] + [g.flatten() for g in grads])
    assume(all(x.isfinite().all() for x in results[0]))  # an exploded network has nothing to compare
    assert_same(*results)


def test_everything_is_made_on_the_device_of_the_positions():
    "The device `meta`, where tensors have a shape and no numbers, stands for a GPU."
    charge, pos, vel = (x.to("meta") for x in world(0)[:3])
    assert [x.device.type for x in network(0).to("meta")(charge, pos, vel)] == ["meta", "meta"]


def test_the_order_of_the_edges_does_not_matter():
    charge, pos, vel = flat(*world(2)[:3])
    edges = all_pairs(2, 4)
    shuffled = edges[:, torch.randperm(edges.shape[1])]
    assert_same(network(2)(charge, pos, vel, edges), network(2)(charge, pos, vel, shuffled))


def test_worlds_of_a_batch_do_not_meet():
    charge, pos, vel, _, _ = world(6)
    for k in range(2):
        alone = network(6)(charge[k], pos[k], vel[k])
        assert_same(alone, [x[k] for x in network(6)(charge, pos, vel)])


def test_an_isolated_node_gets_no_message():
    charge, pos, vel = (x[0] for x in world(0, n=3, batch=1)[:3])
    alone = network(0)(charge[2:], pos[2:], vel[2:])
    pair = torch.tensor([[0, 1], [1, 0]])
    assert_same(alone, [x[2:] for x in network(0)(charge, pos, vel, pair)])


def test_row_0_is_the_sender():
    charge, pos, vel = (x[0] for x in world(0, n=2, batch=1)[:3])
    one_way = torch.tensor([[0], [1]])
    q, mu = network(0).representation(charge, pos, vel, one_way)
    alone_q, alone_mu = network(0).representation(charge[:1], pos[:1], vel[:1])
    assert_same([q[:1], mu[:1]], [alone_q, alone_mu])
    assert not torch.allclose(q[1], network(0).representation(charge[1:], pos[1:], vel[1:])[0])


@pytest.mark.parametrize("distance, talks", [(2.99, True), (3.0, False), (50.0, False)])
def test_interaction_ends_at_the_cutoff(distance, talks):
    charge, pos, vel = (x[0] for x in world(0, n=2, batch=1)[:3])
    pos = torch.tensor([[0, 0, 0], [0, 0, distance]], dtype=torch.float64)
    model = network(0, cutoff=3.0, aggregation="sum")
    together, _ = model(charge, pos, vel)
    alone = torch.cat([model(*(x[k, None] for x in (charge, pos, vel)))[0] for k in range(2)])
    assert torch.allclose(together, alone, rtol=1e-12) != talks


def test_a_head_of_zeros_leaves_the_velocity():
    charge, pos, vel, _, _ = world(1)
    model = network(1)
    for p in model.head.parameters(): torch.nn.init.zeros_(p)
    pos_dt, vel_next = model(charge, pos, vel)
    assert torch.equal(vel_next, vel) and not pos_dt.any()


@pytest.mark.parametrize("remedies", [untreated, every_remedy], ids=["none", "all"])
def test_gradients_are_finite_for_coincident_particles_at_rest(remedies):
    model = network(0, remedies)
    pos, vel = (torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out = model(torch.zeros(2, 4, dtype=torch.float64), pos, vel)
    sum(x.square().sum() + x.sum() for x in out).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in (pos, vel, *model.parameters()))


@relaxed
@given(limit=st.floats(1e-3, 1e3), exponent=st.integers(-200, 200), seed=seeds)
def test_limits_hold_exactly(limit, exponent, seed):
    "For any size of input no reader ever finds a value above the limit."
    v = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10.0**exponent
    clipped = ClipNorm(limit)(v)
    assert measure(clipped, vector=True)[0] <= limit and clipped.isfinite().all()
    short = v.norm(dim=-2, keepdim=True) < 0.999 * limit
    assert_close(torch.where(short, clipped, 0), torch.where(short, v, 0), rtol=1e-12, atol=0)
    assert Clamp(limit)(v).abs().max() <= limit and ScaledTanh(limit)(v).abs().max() <= limit


@relaxed
@given(remedies=any_remedies, seed=seeds)
def test_bounds_hold_in_every_layer(remedies, seed):
    charge, pos, vel, _, _ = world(seed)
    model = network(seed, remedies)
    for site in sites(model).values(): site.reading = True
    model(charge, pos, 5 * vel)
    for place, limit in remedies.bounds().items():
        for layer in range(3): assert sites(model)[f"L{layer}.{place}"].value[0] <= limit


@pytest.mark.parametrize("name", Remedies.declared())
def test_each_remedy_works_alone(name):
    charge, pos, vel, _, _ = world(3)
    changed = network(3, Remedies(**{name: 0.1}))(charge, pos, vel)[0]
    assert not torch.equal(changed, network(3)(charge, pos, vel)[0])


def test_a_new_stabilizer_needs_no_change_of_the_model():
    charge, pos, vel, rotation, _ = world(3)
    model = network(3)

    class Unit(torch.nn.Module):
        def forward(self, v): return v / (v.square().sum(-2, keepdim=True) + 1).sqrt()

    assert attach(model, "L1.mix.mu", Unit) == ["L1.mix.mu"]
    assert_same([x @ rotation for x in model(charge, pos, vel)], model(charge, pos @ rotation, vel @ rotation))


def test_models_with_different_strengths_stack():
    "Strengths are buffers, so members of an ensemble run as one under vmap."
    charge, pos, vel, _, _ = world(1)
    members = [network(1, Remedies(residual_scale_mixing=s, clip_mu_norm=c)) for s, c in ((0.5, 1.0), (0.9, 2.0))]
    params, buffers = torch.func.stack_module_state(members)
    def call(p, b): return torch.func.functional_call(members[0], (p, b), (charge, pos, vel))
    stacked = torch.vmap(call)(params, buffers)
    for k, member in enumerate(members): assert_same([x[k] for x in stacked], member(charge, pos, vel))


def test_compiled_layers_are_one_graph_and_give_the_same():
    "As the trainer compiles them, but without generating code; gradients and readings too."
    charge, pos, vel, _, _ = world(4)
    eager = network(4, every_remedy, layers=2, edge_charges=True)
    compiled = copy.deepcopy(eager)
    for layer in compiled.backbone.layers.values(): layer.compile(fullgraph=True, dynamic=False, backend="eager")
    for site in sites(eager).values(): site.reading = True
    results = []
    for model in (eager, compiled):
        out = model(charge, pos, vel)
        grads = torch.autograd.grad(sum(x.square().sum() for x in out), list(model.parameters()))
        results.append([*out, *grads, *(site.value for site in sites(model).values())])
    assert_same(*results)


def test_the_whole_model_compiles_too():
    charge, pos, vel = flat(*world(4)[:3])
    model = network(4, layers=1)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    for edge_index in (None, all_pairs(2, 4)):
        assert_same(compiled(charge, pos, vel, edge_index), model(charge, pos, vel, edge_index))


@pytest.mark.parametrize("recipe", ["R0", "R2", "R3"])
@pytest.mark.parametrize("edges", ["all", "near", "shuffled"])
def test_a_large_graph_in_parts_is_the_same_network(monkeypatch, recipe, edges):
    "Values, forces, their own gradients, and every reading; the parts are computed again on the way back."
    charge, pos, vel = flat(*world(3, batch=1, n=40)[:3])
    near = edges_within(pos, 1.5)
    edge_index = {"all": None, "near": near, "shuffled": near[:, torch.randperm(near.shape[1])]}[edges]
    net = stabilize(network(3, edge_charges=recipe == "R3"), resolve(recipe))

    def everything():
        at = pos.clone().requires_grad_()
        with watch(net) as w:
            out = net(charge, at, vel, edge_index)
            first = torch.autograd.grad(sum(x.square().sum() for x in out), [at, *net.parameters()], create_graph=True)
            second = torch.autograd.grad(first[0].square().sum(), list(net.parameters()), allow_unused=True)
            readings = w.capture(step=0).readings
        return [*out, *first, *(x for x in second if x is not None)], readings

    whole, read = everything()
    monkeypatch.setattr(model_module, "LARGE", 0)
    monkeypatch.setattr(model_module, "PART", 60 * 3 * net.features)
    parted, read_too = everything()
    assert_same(whole, parted)
    assert [r.key for r in read] == [r.key for r in read_too]
    np.testing.assert_allclose([r.value for r in read], [r.value for r in read_too], rtol=1e-6)


def test_a_graph_of_ones_own():
    "Any class that answers what `Graph` asks will do: here only what lies to the left is heard."
    charge, pos, vel = flat(*world(7, batch=1)[:3])

    class ToTheRight:
        def __init__(self, pos):
            edges = all_pairs(1, len(pos))
            self.inner = EdgeList(pos, edges[:, pos[edges[0], 0] < pos[edges[1], 0]])
            self.distance, self.degree = self.inner.distance, self.inner.degree

        def edges(self, x): return self.inner.edges(x)
        def senders(self, x): return self.inner.senders(x)
        def sum(self, x): return self.inner.sum(x)
        def sum_along(self, x): return self.inner.sum_along(x)

    model = network(7)
    start = model.embedding(charge, vel)
    q, _ = model.backbone(*start, ToTheRight(pos))
    leftmost = pos[:, 0].argmin()
    alone, _ = model.representation(*(x[leftmost, None] for x in (charge, pos, vel)))
    assert_same([q[leftmost]], [alone[0]])


@pytest.mark.parametrize("change, message", [
    (dict(pos=torch.zeros(0, 3, dtype=torch.float64)), "graph is empty"),
    (dict(pos=torch.zeros(4, 2, dtype=torch.float64)), r"expected \(nodes, 3\)"),
    (dict(pos=torch.zeros(4, 3)), "pos is torch.float32, .* convert with .to"),
    (dict(charge=torch.zeros(3, dtype=torch.float64)), "charge has shape"),
    (dict(charge=torch.zeros(4, dtype=torch.long)), "charge is torch.int64, .* convert with .to"),
    (dict(vel=None), "vel has shape None"),
    (dict(vel=torch.zeros(4, 3)), "vel is torch.float32, .* convert with .to"),
    (dict(edge_index=torch.tensor([[0], [4]])), "there are 4 nodes"),
    (dict(edge_index=torch.tensor([[-1], [0]])), "holds -1"),
    (dict(edge_index=torch.tensor([[0.0], [1.0]])), "torch.float32"),
    (dict(edge_index=torch.tensor([0, 1])), r"shape \(2, E\)"),
])
def test_bad_graphs_are_named(change, message):
    charge, pos, vel = (x[0] for x in world(0)[:3])
    good = dict(charge=charge, pos=pos, vel=vel, edge_index=all_pairs(1, 4))
    network(0).representation(**good)
    with pytest.raises(ValueError, match=message): network(0).representation(**good | change)


def test_bad_atoms_are_named():
    atoms, pos = network(0, n_types=10), torch.zeros(2, 3, dtype=torch.float64)
    atoms.representation(torch.tensor([8, 1]), pos)
    with pytest.raises(ValueError, match="charge holds 1 to 10; expected atomic numbers"):
        atoms.representation(torch.tensor([10, 1]), pos)


@pytest.mark.parametrize("bad", [dict(features=0), dict(layers=-1), dict(cutoff=0), dict(cutoff=float("nan")),
                                 dict(n_rbf=1), dict(hidden=0), dict(n_types=0), dict(aggregation="max")])
def test_bad_models_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))): PaiNN(**bad)
