"""Models of five bodies elsewhere: among 20 and 100 bodies, and simulating with what they were not trained with.
Beside them models that were trained on 20. `python benchmarks/elsewhere.py FOLDER` trains what the folder of runs
lacks; nbs/29_simulating.ipynb and nbs/29_larger_worlds.ipynb show what came out.
"""

import dataclasses
import sys
from itertools import islice

import torch
from torch import nn

from common import write
from tqdm.auto import tqdm

from painn_nb.ablation import rolled_by
from painn_nb.data import FrameDataset, painn_nbody
from painn_nb.readings import stats_table
from painn_nb.recipes import build_model, resolve
from painn_nb.studies import ONE_STEP, ONE_STEP_PEAKS, ROLLOUTS
from painn_nb.sweeps import sweep
from painn_nb.systems import SYSTEMS, gravity
from painn_nb.watch import examine


def of_20(n_traj, seed, frames): return gravity(n_traj, seed, n=20, frames=frames)


GRAVITY = SYSTEMS["gravity"]
SYSTEMS["gravity_20"] = dataclasses.replace(GRAVITY, name="gravity_20", title="20 bodies", frames=100, simulate=of_20)
ON_FIVE = [job for job in ROLLOUTS if job["noise"] == 0]
OF_20 = dict(system="gravity_20", batch_size=16, epochs=1000, warmup=100, roll_out=0)
ON_TWENTY = [
    dict(run=run, seed=seed, lr_peak=peak, **ONE_STEP | OF_20)
    for seed in (100, 101) for run, peak in ONE_STEP_PEAKS.items() if run != "R1"]
WORLDS = {5: (128, 100), 20: (16, 100), 100: (4, 20)}  # bodies: worlds, frames


@torch.no_grad()
def errors_among(model, n):
    """Error of the displacement among n bodies beside that of flying straight on, the median over worlds and frames.

    And the share of these whose error is not finite."""
    worlds, frames = WORLDS[n]
    dataset, found = FrameDataset(gravity(worlds, seed=2026, n=n, frames=frames)), []
    for t in range(0, len(dataset), max(len(dataset) // 20, 1)):
        batch = dataset[t]
        predicted, straight = model(*batch.like(model).inputs)[0].double(), GRAVITY.ballistic(*batch.inputs)[0]
        error, without = ((x - batch.pos_dt).square().mean((1, 2)) for x in (predicted, straight))
        found.append((error / without).nan_to_num(nan=torch.inf, posinf=torch.inf))
    ratio = torch.cat(found)
    middle = ratio.quantile(0.5, interpolation="lower").item()
    return {"beside_ballistic": middle if middle < torch.inf else None, "lost": ratio.isinf().double().mean().item()}


def largest(model):
    "The largest |q| and ‖mu‖ that a trained model has in any layer, on sixteen fresh batches."
    captures = [examine(model, *batch.like(model).inputs) for batch in islice(painn_nbody(seed=7), 16)]
    stats = stats_table(captures)
    of = stats[stats.kind == "max"].groupby("stat").value.max()
    return {"clip_q_value": float(of["q_abs_max"]), "clip_mu_norm": float(of["mu_norm_max"])}


def limited(run, limits):
    "The model of a run with other limits on its states."
    model = build_model(dataclasses.replace(run.config, device="cpu", **limits))
    model.load_state_dict(run.model.state_dict())
    return model


class KeepsMomentum(nn.Module):
    "A model whose predictions leave the momentum of each world as it is; all bodies have mass 1."

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, charge, pos, vel):
        pos_dt, vel_next = self.model(charge, pos, vel)
        centre = vel.mean(1, keepdim=True)
        pos_dt = pos_dt - pos_dt.mean(1, keepdim=True) + GRAVITY.frame_dt * centre
        return pos_dt, vel_next - vel_next.mean(1, keepdim=True) + centre


def simulated(run):
    "Roll-outs of a model that is changed only then: other limits on its states, or its momentum kept."
    seen, no_limits = largest(run.model), dict(clip_q_value=None, clip_mu_norm=None)
    r2 = {name: getattr(resolve("R2"), name) for name in no_limits}
    changed = {"limits: its largest values": limited(run, seen), "momentum kept": KeepsMomentum(run.model)}
    if run.about["run"] == "R2": changed["no limits"] = limited(run, no_limits)
    else: changed["limits: those of R2"] = limited(run, r2)
    for name, model in changed.items():
        rolled = {key: x if x < torch.inf else None for key, x in rolled_by(model, run.config.roll_out).items()}
        yield {"changed": name, **seen, **rolled}


if __name__ == "__main__":
    among, simulating = [], []
    for run in tqdm(sweep([*ON_FIVE, *ON_TWENTY], sys.argv[1]), desc="elsewhere", unit="run"):
        trained_on = 20 if run.config.system == "gravity_20" else 5
        about = {"run": run.about["run"], "seed": run.config.seed}
        among += [{**about, "trained_on": trained_on, "bodies": n, **errors_among(run.model, n)} for n in WORLDS]
        if trained_on == 5: simulating += [{**about, **row} for row in simulated(run)]
    write("elsewhere", among=among, simulating=simulating)
