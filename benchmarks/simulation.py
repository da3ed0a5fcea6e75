"""Trajectories per second: this package beside a loop in NumPy, as the EGNN benchmark's generator has it.

The loop simulates one trajectory at a time with (3, N) arrays; the two take turns. The last row is the whole of the
EGNN benchmark, 14,000 trajectories, once. `make bench` runs this.
"""

import statistics
import time

import numpy as np
from tqdm.auto import tqdm

from common import write
from painn_nb.data import painn_nbody
from painn_nb.systems import CHARGED, GRAVITY, charged, charged_initial, gravity

ROUNDS = 5


def numpy_charged(charge, pos, vel):
    "Positions (49, 3, 5) of one trajectory."
    product, frames = -np.outer(charge, charge), []
    np.fill_diagonal(product, 0)
    def force(x):
        r = x[:, None] - x[:, :, None]  # (3, i, j): x_j - x_i
        distance = (r**2).sum(0)
        np.fill_diagonal(distance, 1)
        return (product / distance**1.5 * r).sum(-1).clip(-CHARGED.max_force, CHARGED.max_force)
    vel = vel + CHARGED.dt * force(pos)
    for step in range(1, CHARGED.frames * CHARGED.every + 1):
        pos = pos + CHARGED.dt * vel
        vel = vel + CHARGED.dt * force(pos)
        if step % CHARGED.every == 0: frames.append(pos)
    return np.stack(frames)


def numpy_gravity(pos, vel, steps):
    def force(x):
        r = x[:, None] - x[:, :, None]
        return (GRAVITY.G * r / ((r**2).sum(0) + GRAVITY.softening ** 2) ** 1.5).sum(-1)
    vel = vel + 0.5 * GRAVITY.dt * force(pos)
    for _ in range(steps):
        pos = pos + GRAVITY.dt * vel
        vel = vel + GRAVITY.dt * force(pos)


def seconds(f):
    start = time.perf_counter()
    f()
    return time.perf_counter() - start


def compare(system, ours, count, theirs):
    gravity(128, frames=10)
    turns = [(seconds(ours) / count, seconds(theirs)) for _ in tqdm(range(ROUNDS), desc=system)]
    ratios = [b / a for a, b in turns]
    low, middle, high = statistics.quantiles(ratios, n=4)
    per_second, numpy_per_second = (1 / statistics.median(x) for x in zip(*turns))
    return {"system": system, "per_second": per_second, "numpy_per_second": numpy_per_second,
            "times_faster": middle, "quartiles": [low, high]}


def waits(steps=200, step_seconds=0.05):
    """Milliseconds for which a trainer that needs `step_seconds` per step waits for a batch.

    The first, and of the others the median and the longest."""
    loader, waited = painn_nbody(128), []
    for _ in range(steps):
        waited.append(1e3 * seconds(lambda: next(loader)))
        time.sleep(step_seconds)
    return {"first_ms": waited[0], "median_ms": statistics.median(waited[1:]), "longest_ms": max(waited[1:])}


if __name__ == "__main__":
    first = [x[0].numpy() for x in charged_initial(range(1))]
    one = numpy_charged(first[0], first[1].T, first[2].T)
    np.testing.assert_allclose(one, charged(1).pos[0].mT.numpy(), rtol=1e-6)
    start = gravity(1, frames=1)
    pos, vel = start.pos[0, 0].T.numpy(), start.vel[0, 0].T.numpy()
    rows = [compare("charged", lambda: charged(4000), 4000, lambda: numpy_charged(first[0], first[1].T, first[2].T)),
            compare("gravity", lambda: gravity(4000, frames=200), 4000, lambda: numpy_gravity(pos, vel, 1990))]
    whole, wait = seconds(lambda: charged(14_000)), waits()
    for r in rows:
        speed = f"{r['per_second']:.0f} trajectories per second"
        print(f"{r['system']}: {speed}, {r['times_faster']:.0f} times the NumPy loop")
    print(f"14,000 charged trajectories: {whole:.0f} s; a trainer waits {wait['median_ms']:.2f} ms for a batch")
    write("simulation", rounds=ROUNDS, rows=rows, benchmark_seconds=whole, waits=wait)
