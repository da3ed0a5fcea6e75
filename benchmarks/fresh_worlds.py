"""The confirmed recipes of nbs/22_recipe.ipynb, on worlds that no choice of a recipe or a rate has looked at.

The search and the fresh seeds share their held-out worlds. Here the same trainings are measured on the worlds for
validation, which these runs never use: as a whole, and by how near a body has its nearest neighbour.
`python benchmarks/fresh_worlds.py FOLDER` trains what the folder of runs lacks.
"""

import sys

import torch
from common import write
from tqdm.auto import tqdm

from painn_nb.data import held_out
from painn_nb.studies import confirmation
from painn_nb.sweeps import sweep
from painn_nb.trainer import evaluate

WORLDS = 1024
NEAREST = (0.25, 0.5, 1.0, 2.0)  # distances between which bodies are told apart


def to_nearest(pos):
    "Distance of each body (B, N) to the nearest other one, from positions (B, N, 3)."
    itself = torch.eye(pos.shape[1], dtype=torch.bool)
    return torch.cdist(pos, pos).masked_fill(itself, torch.inf).amin(-1)


@torch.no_grad()
def by_distance(model, batches):
    "Mean squared error of the bodies in each range of distances to their nearest neighbour, and their share."
    found = []
    for batch in batches:
        predicted = model(*batch.like(model).inputs)
        errors = ((x.double() - y.double()).square().mean(-1)
                  for x, y in zip(predicted, (batch.pos_dt, batch.vel_next)))
        found.append(torch.stack([to_nearest(batch.pos), *errors]).flatten(1))
    nearest, pos_dt, vel = torch.cat(found, 1)
    ranges = torch.bucketize(nearest, torch.tensor(NEAREST, dtype=nearest.dtype))
    for k, limit in enumerate((*NEAREST, None)):
        there = ranges == k
        yield {"below": limit, "share": there.double().mean().item(),
               "pos_dt": pos_dt[there].mean().item(), "vel": vel[there].mean().item()}


if __name__ == "__main__":
    worlds, rows = {"searched": held_out("test"), "fresh": held_out("val", n_traj=WORLDS)}, []
    for run in tqdm(sweep(confirmation(), sys.argv[1]), desc="fresh worlds", unit="run"):
        errors = {name: evaluate(run.model, batches) for name, batches in worlds.items()}
        near = list(by_distance(run.model, worlds["fresh"]))
        rows.append({"run": run.about["run"], "seed": run.config.seed, "peak": run.config.lr_peak, **errors,
                     "by_distance": near})
    write("fresh_worlds", worlds=WORLDS, rows=rows)
