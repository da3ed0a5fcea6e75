"""Symmetries, graphs and gradients of PaiNN, for any stabilizer setting."""

from dataclasses import fields

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from painn_nb.model import PaiNN
from painn_nb.sites import measure, sites
from painn_nb.stabilizer import PLACES, Clamp, ClipNorm, Scale, ScaledTanh, Stabilizer, attach, stabilize

strength = st.floats(0.05, 20)
stabilizers = st.builds(Stabilizer, **{f.name: strength if PLACES[f.name][0] is Scale else st.none() | strength for f in fields(Stabilizer)})
relaxed = settings(max_examples=40, deadline=None)


def world(seed, n=4, batch=2):
    g = torch.Generator().manual_seed(seed)
    draw = lambda *shape: torch.randn(*shape, generator=g, dtype=torch.float64)
    return draw(batch, n), 2 * draw(batch, n, 3), 2 * draw(batch, n, 3), torch.linalg.qr(draw(3, 3))[0], draw(3)


def network(seed, stabilizer=Stabilizer(), **kwargs):
    torch.manual_seed(seed)
    return stabilize(PaiNN(**dict(features=8, layers=3, n_rbf=8) | kwargs).double(), stabilizer)


def assert_same(a, b):
    "Equal to 1e-10, relative to the largest value."
    for x, y in zip(a, b): assert (x - y).abs().max() <= 1e-10 * max(1.0, x.abs().max().item())


@relaxed
@given(stabilizer=stabilizers, seed=st.integers(0, 2**32 - 1), aggregation=st.sampled_from(["mean", "sum"]))
def test_rotations_reflections_translations(stabilizer, seed, aggregation):
    charge, pos, vel, rotation, shift = world(seed)
    for turn in (rotation, -rotation):  # one of the two is a reflection
        model = network(seed, stabilizer, aggregation=aggregation)
        assert_same([x @ turn for x in model(charge, pos, vel)], model(charge, pos @ turn + shift, vel @ turn))


@relaxed
@given(stabilizer=stabilizers, seed=st.integers(0, 2**32 - 1))
def test_permutations(stabilizer, seed):
    charge, pos, vel, _, _ = world(seed)
    model, order = network(seed, stabilizer), torch.randperm(4)
    assert_same([x[:, order] for x in model(charge, pos, vel)], model(charge[:, order], pos[:, order], vel[:, order]))


@relaxed
@given(stabilizer=stabilizers, seed=st.integers(0, 2**32 - 1), aggregation=st.sampled_from(["mean", "sum"]), n=st.integers(1, 5))
def test_complete_worlds_equal_their_edge_list(stabilizer, seed, aggregation, n):
    "Values, and the gradients of all weights, of the two ways to describe the same graph."
    charge, pos, vel, _, _ = world(seed, n)
    model = network(seed, stabilizer, aggregation=aggregation)
    pairs = [[b * n + j, b * n + i] for b in range(2) for i in range(n) for j in range(n) if i != j]
    edge_index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T
    results = []
    for args in ((charge, pos, vel), (charge.flatten(), pos.flatten(0, 1), vel.flatten(0, 1), edge_index)):
        out = [x.reshape(-1, 3) for x in model(*args)]
        grads = torch.autograd.grad(sum(x.square().sum() for x in out), list(model.parameters()))
        results.append(out + list(grads))
    assume(all(x.isfinite().all() for x in results[0]))  # an exploded network has nothing to compare
    assert_same(*results)


def test_an_isolated_node_gets_no_message():
    charge, pos, vel, _, _ = world(0, n=3, batch=1)
    model = network(0)
    alone = model(charge[0, 2:], pos[0, 2:], vel[0, 2:])
    pair = torch.tensor([[0, 1], [1, 0]])
    assert_same(alone, [x[2:] for x in model(charge[0], pos[0], vel[0], pair)])


def test_row_0_is_the_sender():
    charge, pos, vel, _, _ = world(0, n=2, batch=1)
    one_way = torch.tensor([[0], [1]])
    q, _ = network(0).representation(charge[0], pos[0], one_way, vel[0])
    alone, _ = network(0).representation(charge[0, :1], pos[0, :1], torch.empty(2, 0, dtype=torch.long), vel[0, :1])
    assert torch.allclose(q[0], alone[0], rtol=1e-12) and not torch.allclose(q[1], alone[0])


@pytest.mark.parametrize("stabilizer", [Stabilizer(), Stabilizer(0.5, 0.5, 0.5, 5, 10, 10, 5, 100, 20)])
def test_gradients_are_finite_for_coincident_particles_at_rest(stabilizer):
    model = network(0, stabilizer)
    pos, vel = (torch.zeros(2, 4, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    out = model(torch.zeros(2, 4, dtype=torch.float64), pos, vel)
    sum(x.square().sum() + x.sum() for x in out).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in (pos, vel, *model.parameters()))


@relaxed
@given(limit=st.floats(1e-3, 1e3), exponent=st.integers(-200, 200), seed=st.integers(0, 2**32 - 1))
def test_limits_hold_exactly(limit, exponent, seed):
    "For any size of input no reader ever finds a value above the limit."
    v = torch.randn(5, 3, 4, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) * 10.0**exponent
    clipped = ClipNorm(limit)(v)
    assert measure(clipped, vector=True)[0] <= limit and clipped.isfinite().all()
    short = v.norm(dim=-2, keepdim=True) < 0.999 * limit
    torch.testing.assert_close(torch.where(short, clipped, 0), torch.where(short, v, 0), rtol=1e-12, atol=0)
    assert Clamp(limit)(v).abs().max() <= limit and ScaledTanh(limit)(v).abs().max() <= limit


@relaxed
@given(stabilizer=stabilizers, seed=st.integers(0, 2**32 - 1))
def test_state_clamps_bound_every_layer(stabilizer, seed):
    charge, pos, vel, _, _ = world(seed)
    model = network(seed, stabilizer)
    for s in sites(model).values(): s.reading = True
    model(charge, pos, 5 * vel)
    for name, site in sites(model).items():
        if stabilizer.clip_q_value and name.endswith("mix.q"): assert site.value[0] <= stabilizer.clip_q_value
        if stabilizer.clip_mu_norm and name.endswith("mix.mu"): assert site.value[0] <= stabilizer.clip_mu_norm


def test_each_setting_works_alone_and_a_new_stabilizer_needs_no_change_of_the_model():
    charge, pos, vel, rotation, _ = world(3)
    for name in (f.name for f in fields(Stabilizer)):
        model = network(3, Stabilizer(**{name: 0.1}))
        assert not torch.equal(model(charge, pos, vel)[0], network(3)(charge, pos, vel)[0]), name
    model = network(3)

    class Unit(torch.nn.Module):
        def forward(self, v): return v / (v.square().sum(-2, keepdim=True) + 1).sqrt()

    assert attach(model, "L1.mix.mu", Unit) == ["L1.mix.mu"]
    assert_same([x @ rotation for x in model(charge, pos, vel)], model(charge, pos @ rotation, vel @ rotation))


def test_models_with_different_strengths_stack():
    "Strengths are buffers, so members of an ensemble run as one under vmap."
    charge, pos, vel, _, _ = world(1)
    members = [network(1, Stabilizer(residual_scale_mixing=s, clip_mu_norm=c)) for s, c in ((0.5, 1.0), (0.9, 2.0))]
    params, buffers = torch.func.stack_module_state(members)
    call = lambda p, b: torch.func.functional_call(members[0], (p, b), (charge, pos, vel))
    stacked = torch.vmap(call)(params, buffers)
    for k, member in enumerate(members): assert_same([x[k] for x in stacked], member(charge, pos, vel))


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_equivariance_in_each_dtype(dtype, tolerance):
    charge, pos, vel, rotation, _ = (x.to(dtype) for x in world(5))
    model = network(5).to(dtype)
    for a, b in zip(model(charge, pos, vel), model(charge, pos @ rotation, vel @ rotation)):
        assert (a @ rotation - b).abs().max() <= tolerance * max(1, a.abs().max())


@pytest.mark.parametrize("change, message", [
    (dict(pos=torch.zeros(0, 3, dtype=torch.float64)), "graph is empty"),
    (dict(pos=torch.zeros(4, 2, dtype=torch.float64)), r"expected \(nodes, 3\)"),
    (dict(pos=torch.zeros(4, 3)), "convert with .to"),
    (dict(z=torch.zeros(3, dtype=torch.float64)), "z has shape"),
    (dict(vel=None), "vel has shape None"),
    (dict(vel=torch.zeros(4, 3)), "convert with .to"),
    (dict(edge_index=torch.tensor([[0], [4]])), "there are 4 nodes"),
    (dict(edge_index=torch.tensor([[-1], [0]])), "holds -1"),
    (dict(edge_index=torch.tensor([[0.0], [1.0]])), "torch.float32"),
    (dict(edge_index=torch.tensor([0, 1])), r"shape \(2, E\)"),
])
def test_bad_graphs_are_named(change, message):
    good = dict(z=torch.ones(4, dtype=torch.float64), pos=torch.randn(4, 3, dtype=torch.float64), vel=torch.randn(4, 3, dtype=torch.float64))
    network(0).representation(**good)
    with pytest.raises(ValueError, match=message): network(0).representation(**good | change)


@pytest.mark.parametrize("bad", [dict(features=0), dict(layers=-1), dict(cutoff=0), dict(n_rbf=1), dict(aggregation="max")])
def test_bad_models_are_named(bad):
    with pytest.raises(ValueError, match=next(iter(bad))): PaiNN(**bad)
