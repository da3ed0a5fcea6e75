"""What is wrong is told in a sentence: the value, what was expected, and what to do. Nothing is begun."""

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from painn_nb.ablation import resume_experiment, run_experiment
from painn_nb.comparison import compare
from painn_nb.data import painn_nbody
from painn_nb.grids import factorial, find_grid, leave_one_out
from painn_nb.growth import degree, headroom
from painn_nb.loops import Watching
from painn_nb.model import PaiNN
from painn_nb.post_mortem import post_mortem
from painn_nb.readings import from_record
from painn_nb.recipes import build_model, resolve, resolve_device
from painn_nb.runs import Run, pack, packed, runs
from painn_nb.stabilizer import Clamp, ClipNorm, attach, attached, detach, stabilize
from painn_nb.sweeps import sweep
from painn_nb.watch import culprits, watch

EMPTY, NOWHERE = Path(__file__).parent, Path(__file__).parent / "nowhere"
TINY = dict(features=8, layers=1, n_rbf=4, batch_size=4, epochs=2, device="cpu", runs_dir=NOWHERE)
net, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), torch.ones(2, 4)


def watching(*args, **options):
    with watch(*args, **options): pass


CASES = [
    (lambda: resolve(3), "run is 3; the recipes are R0, R1, R2, R3, or give the path of a .toml"),
    (lambda: resolve(None), "run is None; the recipes are R0, R1, R2, R3, or give the path of a"),
    (lambda: resolve("r2"), "run is 'r2'; the recipes are R0, R1, R2, R3, or give the path of a"),
    (lambda: resolve(""), "run is ''; the recipes are R0, R1, R2, R3, or give the path of a"),
    (lambda: resolve("x.toml"), "run is 'x.toml', and there is no such file."),
    (lambda: resolve("R2", clip_mu_norm=True), "clip_mu_norm is True; it must be a number, or off."),
    (lambda: resolve("R2", clip_mu_norm="a"), "clip_mu_norm is 'a'; it must be a valid number, or off."),
    (lambda: resolve("R2", clip_mu_norm=-1), "clip_mu_norm is -1; it must be greater than 0, or off."),
    (lambda: resolve("R2", clip_mu_norm=0), "clip_mu_norm is 0; it must be greater than 0, or off."),
    (lambda: resolve("R2", clip_mu_norm=math.nan), "clip_mu_norm is nan; it must be greater than 0, or off."),
    (lambda: resolve("R2", clip_mu_norm=math.inf), "clip_mu_norm is inf; it must be a finite number, or off."),
    (lambda: resolve("R2", clip_mu_norm=[1]), "clip_mu_norm is [1]; it must be a valid number, or off."),
    (lambda: resolve("R2", seed=True), "seed is True; it must be a number."),
    (lambda: resolve("R2", seed=-1), "seed is -1; it must be greater than or equal to 0."),
    (lambda: resolve("R2", seed=1.5), "seed is 1.5; it must be a valid integer, got a number with a"),
    (lambda: resolve("R2", seed="x"), "seed is 'x'; it must be a valid integer."),
    (lambda: resolve("R2", epochs=True), "epochs is True; it must be a number."),
    (lambda: resolve("R2", epochs=0), "epochs is 0; it must be greater than 0."),
    (lambda: resolve("R2", epochs=1.5), "epochs is 1.5; it must be a valid integer, got a number with a"),
    (lambda: resolve("R2", batch_size="many"), "batch_size is 'many'; it must be a valid integer."),
    (lambda: resolve("R2", checkpoint_seconds=math.inf), "checkpoint_seconds is inf; it must be a finite number."),
    (lambda: resolve("R2", checkpoint_seconds=-1), "checkpoint_seconds is -1; it must be greater than or equal to 0."),
    (lambda: resolve("R2", dtype="half"), "dtype is 'half'; it must be 'float64' or 'float32'."),
    (lambda: resolve("R2", dtype=torch.float32), "dtype is torch.float32; it must be 'float64' or 'float32'."),
    (lambda: resolve("R2", device=None), "device is None; it must be a valid string."),
    (lambda: resolve("R2", device=3), "device is 3; it must be a valid string."),
    (lambda: resolve("R2", system="moon"), "system is 'moon'; it must be one of gravity, charged."),
    (lambda: resolve("R2", system=3), "system is 3; it must be a valid string."),
    (lambda: resolve("R2", nonfinite="no"), "nonfinite is 'no'; it must be 'stop', 'skip' or 'rescale'."),
    (lambda: resolve("R2", nonfinite=True), "nonfinite is True; it must be 'stop', 'skip' or 'rescale'."),
    (lambda: resolve("R2", cutoff=0), "cutoff is 0; it must be greater than 0."),
    (lambda: resolve("R2", lr_peak=0), "lr_peak is 0; it must be greater than 0."),
    (lambda: resolve("R2", lr_peak="fast"), "lr_peak is 'fast'; it must be a valid number."),
    (lambda: resolve("R2", warmup=0), "warmup is 0; it must be greater than 0."),
    (lambda: resolve("R2", features=-3), "features is -3; it must be greater than 0."),
    (lambda: resolve("R2", features=2.5), "features is 2.5; it must be a valid integer, got a number with a"),
    (lambda: resolve("R2", clip_gradients_norm=True), "clip_gradients_norm is True; it must be a number."),
    (lambda: resolve("R2", clip_gradients_norm=0), "clip_gradients_norm is 0; it must be greater than 0."),
    (lambda: resolve("R2", debug_layer_stats_every=-1),
     "debug_layer_stats_every is -1; it must be greater than or equal to 0."),
    (lambda: resolve("R2", clip_mu=1), "clip_mu is no setting; did you mean clip_mu_norm? The settings are"),
    (lambda: build_model(resolve("R2", clip_q_value=1e-50, dtype="float32", device="cpu", features=8, layers=1)),
     "clip_q_value is 1e-50, which float32 cannot hold; give a number"),
    (lambda: run_experiment("R0", name=2024, **TINY), "name is 2024; use letters, digits, '_', '-' and '.'."),
    (lambda: resume_experiment("nowhere"), "nowhere' is no run directory: it has no config.json."),
    (lambda: runs(NOWHERE), "nowhere' is no folder; give the one above painn, as runs."),
    (lambda: Run(NOWHERE).stats, "nowhere' is no run directory: it is not there."),
    (lambda: Run(NOWHERE).metrics, "nowhere' is no run directory: it is not there."),
    (lambda: Run(NOWHERE).about, "nowhere' has no config.json; it is no run directory."),
    (lambda: Run(NOWHERE).captures, "nowhere' is no run directory: it is not there."),
    (lambda: Run(NOWHERE).summary, "nowhere' has no summary.json; it has not ended."),
    (lambda: packed(EMPTY), "/runs.parquet); make them with pack."),
    (lambda: pack(EMPTY), "' has no runs to pack; expected are painn/<run>/config.json."),
    (lambda: compare(NOWHERE), "nowhere'; expected are runs that completed or exploded."),
    (lambda: compare(EMPTY), "'; expected are runs that completed or exploded."),
    (lambda: attach(net, "0", lambda: None), "0 gets None; expected a module for tensors."),
    (lambda: attach(net, "0", Clamp(1)), "0 gets Clamp(1); give what makes one: lambda: Clamp(1)."),
    (lambda: attach(net, "9", lambda: Clamp(1)),
     "no site and no module matches '9'; this model has Sequential(), 0, 1."),
    (lambda: attach(net, "0", lambda: Clamp(1), vector=True),
     "0 holds vectors (..., 3, F), which Clamp is not made for; use"),
    (lambda: attach(net, "0", lambda: Clamp(1), input=0, output=0), "input is 0 and output 0; give one of them."),
    (lambda: attach(net, "0", lambda: ClipNorm(1), vector="abc"),
     "vector is 'abc'; expected an axis, or irreps as 8x0e+4x1o."),
    (lambda: Clamp(True), "Clamp has strength True; it must be a finite number above 0."),
    (lambda: Clamp("1"), "Clamp has strength '1'; it must be a finite number above 0."),
    (lambda: Clamp(None), "Clamp has strength None; it must be a finite number above 0."),
    (lambda: Clamp(math.nan), "Clamp has strength nan; it must be a finite number above 0."),
    (lambda: Clamp(0), "Clamp has strength 0; it must be a finite number above 0."),
    (lambda: stabilize(net, "R2"), "remedies is 'R2'; give Remedies(clip_q_value=100) or a Config, as"),
    (lambda: stabilize(net, dict(clip_q_value=1)),
     "remedies is {'clip_q_value': 1}; give Remedies(clip_q_value=100) or a"),
    (lambda: stabilize(net, resolve("R2")), "Sequential has no sites and no class of PLACES; use `attach`, or add"),
    (lambda: watching(net, which="zz"), "no module is chosen by 'zz'; this model has Sequential(), 0, 1."),
    (lambda: watching(net, vector={"q": 1}), "vector names 'q', which is no module; this model has Sequential(), 0,"),
    (lambda: watching(net, vector={"0": "abc"}), "vector is 'abc'; expected an axis, or irreps as 8x0e+4x1o."),
    (lambda: post_mortem(net, lambda: None), "loss gave None; expected a function that runs the model and returns"),
    (lambda: post_mortem(net, lambda: net(x)), "loss gave a tensor (2, 1); expected a function that runs the model"),
    (lambda: degree(net), "no input is scaled: `scaled` is None, and there is no floating-point"),
    (lambda: degree(net, torch.ones(2, 4).long()),
     "no input is scaled: `scaled` is None, and there is no floating-point"),
    (lambda: degree(net, x, scaled=5), "no input is scaled: `scaled` is 5, and there is no floating-point"),
    (lambda: degree(net, x, scaled="p"), "no input is scaled: `scaled` is 'p', and there is no floating-point"),
    (lambda: headroom(net, x, most=0), "limit is 1000000.0 and most 0; a limit is above 0, and a factor above"),
    (lambda: headroom(net, x, limit=-1), "limit is -1 and most 1024.0; a limit is above 0, and a factor above"),
    (lambda: headroom(net, x, limit=math.nan), "limit is nan and most 1024.0; a limit is above 0, and a factor above"),
    (lambda: degree(net, x, doublings=0), "doublings is 0; give a whole number from 1."),
    (lambda: degree(net, x, doublings=-1), "doublings is -1; give a whole number from 1."),
    (lambda: next(painn_nbody(0)), "batch_size is 0; a batch needs at least 1 trajectory."),
    (lambda: next(painn_nbody(-1)), "batch_size is -1; a batch needs at least 1 trajectory."),
    (lambda: next(painn_nbody(4, frames=0)), "frames is 0; a prediction needs at least 2, a frame and the next."),
    (lambda: next(painn_nbody(4, frames=1)), "frames is 1; a prediction needs at least 2, a frame and the next."),
    (lambda: PaiNN(features=0), "features is 0; it must be a finite number above 0."),
    (lambda: PaiNN(layers=-1), "layers is -1; it must be a finite number above 0."),
    (lambda: PaiNN(n_rbf=1), "n_rbf is 1; at least 2 Gaussians span [0, cutoff]."),
    (lambda: PaiNN(cutoff=0), "cutoff is 0; it must be a finite number above 0."),
    (lambda: PaiNN(cutoff=math.nan), "cutoff is nan; it must be a finite number above 0."),
    (lambda: from_record({}), "a capture has a step, and this record has only nothing."),
    (lambda: from_record({"step": 1, "x":3}), "'x' is not the key of a reading; expected debug/<site>_<statistic>,"),
    (lambda: sweep([dict(run="R2", seed="x")], EMPTY),
     "job 0, run R2, seed x: seed is 'x'; it must be a valid integer."),
    (lambda: sweep([dict(run="R2")], EMPTY, workers=0), "workers is 0; expected a number from 1."),
    (lambda: find_grid("nope"), "grid is 'nope'; the grids are original, seeds, rates, leave_one_out,"),
    (lambda: find_grid("x.toml"), "grid is 'x.toml', which cannot be read: No such file or directory."),
    (lambda: leave_one_out("R0"), "run is 'R0', which has no remedy; give a recipe that has some, as R2."),
    (lambda: factorial("R1", ["residual_scale_mixing"]),
     "the remedies are ['residual_scale_mixing']; a factorial needs two at"),
    (lambda: factorial("R2", ["nope"]), "'nope' is no remedy of R2; it has filter_gain, tanh_message_scale,"),
    (lambda: Watching(net, every=0), "every is 0; give a whole number of steps from 1."),
    (lambda: Watching(net, every="2"), "every is '2'; give a whole number of steps from 1."),
    (lambda: resolve_device("abacus"), "device is 'abacus', which this machine does not have (Expected one of"),
    (lambda: watching(None), "model is None; give a torch.nn.Module."),
    (lambda: watching([net]), "; give a torch.nn.Module."),
    (lambda: watching(net, which=0), "0 chooses no modules; give names, where * stands for all, or a function."),
    (lambda: watching(net, wanted=3), "3 chooses no modules; give names"),
    (lambda: watching(net, vector=-2), "vector is -2; expected names and where vectors lie, as {'mixing.*': 1}."),
    (lambda: watching(net, vector={"0": 1.5}), "vector is 1.5; expected an axis, irreps as 8x0e+4x1o, or a tuple"),
    (lambda: watching(net, keep=3), "keep is 3; give a list, or Records."),
    (lambda: watching(net, run_dir=3), "3 is no path of a run directory."),
    (lambda: Watching(None), "model is None; give a torch.nn.Module."),
    (lambda: culprits(None), "None is no capture; give what w.capture(step) returns"),
    (lambda: culprits([1]), "[1] is no capture; give what w.capture(step) returns"),
    (lambda: post_mortem(net, x), "; give a function: lambda: loss_of(model(batch))."),
    (lambda: post_mortem(None, lambda: x.sum()), "model is None; give a torch.nn.Module."),
    (lambda: attach(None, "0", lambda: Clamp(1)), "model is None; give a torch.nn.Module."),
    (lambda: attach(net, "0", Clamp), "which makes none (Stabilizer.__init__() missing 1 required"),
    (lambda: attach(net, "0", "clamp"), "0 gets 'clamp'; give what makes a stabilizer: lambda: Clamp(10)."),
    (lambda: detach(None), "model is None; give a torch.nn.Module."),
    (lambda: stabilize(None, resolve("R2")), "model is None; give a torch.nn.Module."),
    (lambda: resume_experiment(None), "None is no path of a run directory."),
    (lambda: resume_experiment(4), "4 is no path of a run directory."),
    (lambda: runs(None), "'None' is no folder; give the one above painn, as runs."),
    (lambda: Run(None).about, "None is no path of a run directory."),
    (lambda: sweep("R2", EMPTY), "job 0 is 'R'; expected what run_experiment takes, as dict(run='R2', seed=1)."),
    (lambda: sweep([3], EMPTY), "job 0 is 3; expected what run_experiment takes, as dict(run='R2', seed=1)."),
    (lambda: sweep([dict(seed=1)], EMPTY), "job 0, seed 1, has no run; give a recipe, as run='R2'."),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_mistake_is_told_in_a_sentence(case):
    call, sentence = CASES[case]
    with pytest.raises(ValueError) as told: call()
    assert sentence in str(told.value)
    assert not NOWHERE.exists() and not attached(net)
