"What takes longer than a notebook should: far trajectories of the benchmark, energies of many worlds, other devices."

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from painn_nb.data import held_out, painn_nbody
from painn_nb.systems import (
    SYSTEMS, charged, charged_energy, charged_initial, gravity, gravity_energy, gravity_from, gravity_segnn,
)


def test_the_last_charged_trajectory_can_be_had_alone():
    charge, pos, vel = charged_initial([13_999])
    assert charge.abs().eq(1).all() and pos.shape == (1, 5, 3) and pos.abs().max() <= 5
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


@pytest.mark.parametrize("name", SYSTEMS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 2**63 - 1), n_traj=st.integers(1, 3), frames=st.integers(1, 3))
def test_a_seed_names_a_simulation_of_any_system(name, seed, n_traj, frames):
    system = SYSTEMS[name]
    one, two, other = (system.simulate(n_traj, s, frames) for s in (seed, seed, (seed + 1) % 2**63))
    assert one.pos.shape == one.vel.shape == (n_traj, frames, 5, 3) and one.charge.shape == (n_traj, 5)
    assert one.pos.dtype == one.vel.dtype == one.charge.dtype == torch.float64
    assert system.energy(one).total.shape == (n_traj, frames) and one.frame_dt == system.frame_dt
    assert one.pos.equal(two.pos) and one.vel.equal(two.vel) and not one.pos.equal(other.pos)


@pytest.mark.parametrize("name", SYSTEMS)
def test_streams_of_any_system_never_meet(name):
    system, stream = SYSTEMS[name], painn_nbody(1, system=SYSTEMS[name], frames=2)
    starts = [next(stream).pos for _ in range(4)] + [next(painn_nbody(1, 1, system=system, frames=2)).pos]
    starts += [held_out(split, 1, 1, system=system)[0].pos for split in ("val", "test")]
    assert len({tuple(x.flatten().tolist()) for x in starts}) == 7


def test_gravity_goes_on_from_any_frame():
    "Also where it comes in float32, and in another layout."
    whole = gravity(3, 5, frames=20)
    assert gravity_from(whole.pos[:, 7], whole.vel[:, 7], 13).pos.allclose(whole.pos[:, 7:], atol=1e-9, rtol=0)
    single = gravity_from(whole.pos[:, 7].float().requires_grad_(), whole.vel[:, 7], 3)
    assert single.pos.dtype == single.charge.dtype == torch.float64 and not single.pos.requires_grad
    assert single.pos.allclose(whole.pos[:, 7:10], atol=1e-4)


@pytest.mark.parametrize("simulate", [gravity, charged, gravity_segnn])
def test_another_device(simulate):
    world = simulate(2, frames=2, device="meta")
    assert {x.device.type for x in (world.pos, world.vel, world.charge)} == {"meta"}
