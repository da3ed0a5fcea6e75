import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from painn_nb.systems import charged, charged_energy, charged_initial, gravity, gravity_energy


@pytest.fixture(scope="module")
def benchmark(root): return np.load(root / "tests/reference/egnn_charged_first4.npz")


def test_charged_agrees_with_the_benchmarks_file(benchmark):
    ours = charged(4)
    np.testing.assert_array_equal(ours.charge.numpy(), benchmark["charges"][..., 0])
    for mine, theirs in ((ours.pos, benchmark["loc"]), (ours.vel, benchmark["vel"])):
        np.testing.assert_allclose(mine.mT.numpy(), theirs, rtol=1e-6)


def test_any_charged_trajectory_can_be_had_alone(benchmark):
    np.testing.assert_allclose(charged([2]).pos[0].mT.numpy(), benchmark["loc"][2], rtol=1e-6)
    charge, pos, vel = charged_initial([13_999])
    assert charge.abs().eq(1).all() and pos.shape == (1, 5, 3)
    torch.testing.assert_close(vel.norm(dim=-1), torch.full((1, 5), 0.5, dtype=torch.float64))


def test_charged_conserves_energy_away_from_encounters():
    e = charged_energy(charged(16)).total
    assert ((e - e[:, :1]).abs() / e[:, :1].abs().clamp(min=1)).median() < 0.02


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**40), n=st.integers(1, 7))
def test_gravity_conserves_energy_and_momentum(seed, n):
    world = gravity(3, seed, n=n, frames=20)
    e = gravity_energy(world)
    assert ((e.total - e.total[:, :1]).abs() <= 0.2 * (1 + e.kinetic.amax(1, keepdim=True))).all()
    assert world.vel.mean(2).abs().max() < 1e-10
    centre = world.pos.mean(2)
    torch.testing.assert_close(centre, centre[:, :1].expand_as(centre), rtol=0, atol=1e-9)


def test_more_than_one_body_count():
    assert gravity(2, n=3, frames=4).pos.shape == (2, 4, 3, 3)
