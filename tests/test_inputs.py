"""What is wrong is told in a sentence: the value, what was expected, and what to do. Nothing is begun."""

import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from painn_nb.ablation import new_experiment, resume_experiment, run_experiment
from painn_nb.comparison import compare, conclusion, survival
from painn_nb.data import held_out, nbody_small, painn_nbody
from painn_nb.diagnostics import lost_in
from painn_nb.grids import factorial, find_grid, leave_one_out, only_one, original, rates, seeds, single
from painn_nb.growth import degree, headroom
from painn_nb.loops import LightningWatch, TrainerWatch, Watching, to_csv
from painn_nb.model import PaiNN, edges_within
from painn_nb.plots import (
    plot_before_after, plot_comparison, plot_growth, plot_heatmap, plot_heatmaps, plot_loss, plot_pass, plot_runs,
    plot_saturation,
)
from painn_nb.post_mortem import post_mortem
from painn_nb.readings import from_record
from painn_nb.recipes import build_model, resolve, resolve_device
from painn_nb.records import Records, save_atomic, to_json, write_atomic
from painn_nb.reductions import Statistic
from painn_nb.runs import Run, pack, packed, runs
from painn_nb.stabilizer import (
    Clamp, ClipNorm, LayerScale, Remedies, Scale, ScaledTanh, SoftClipNorm, attach, attached, detach, stabilize,
)
from painn_nb.sweeps import sweep
from painn_nb.systems import charged, gravity
from painn_nb.watch import culprits, examine, watch

EMPTY, NOWHERE = Path(__file__).parent, Path(__file__).parent / "nowhere"
PACKED = EMPTY.parent / "runs" / "recipe"
TINY = dict(features=8, layers=1, n_rbf=4, batch_size=4, epochs=2, device="cpu", runs_dir=NOWHERE)
net, x = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 1)), torch.ones(2, 4)
m, c, pos, vel = PaiNN(8, 1, 4), torch.zeros(3), torch.randn(3, 3), torch.randn(3, 3)
good = min((EMPTY.parent / "runs" / "painn").glob("*__R2_full"))
stats = Run(good).stats
none = stats[:0]


def watching(*args, **options):
    with watch(*args, **options): pass


def watched_at(step):
    with watch(net) as w:
        net(x)
        w.capture(step)


def numberless():
    "A module that gets no tensor."
    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.part = nn.Identity()

        def forward(self, x): return self.part(3) + x

    other = Net()
    attach(other, "part", lambda: Clamp(1), input=0)
    other(x)


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
    (lambda: Clamp(True), "the strength of Clamp is True; it must be a finite number above 0."),
    (lambda: Clamp("1"), "the strength of Clamp is '1'; it must be a finite number above 0."),
    (lambda: Clamp(None), "the strength of Clamp is None; it must be a finite number above 0."),
    (lambda: Clamp(math.nan), "the strength of Clamp is nan; it must be a finite number above 0."),
    (lambda: Clamp(0), "the strength of Clamp is 0; it must be a finite number above 0."),
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
    (lambda: degree(net, x, doublings=0), "doublings is 0; it must be a whole number from 1."),
    (lambda: degree(net, x, doublings=-1), "doublings is -1; it must be a whole number from 1."),
    (lambda: next(painn_nbody(0)), "batch_size is 0; it must be a whole number from 1."),
    (lambda: next(painn_nbody(-1)), "batch_size is -1; it must be a whole number from 1."),
    (lambda: next(painn_nbody(4, frames=0)), "frames is 0; it must be a whole number from 2."),
    (lambda: next(painn_nbody(4, frames=1)), "frames is 1; it must be a whole number from 2."),
    (lambda: PaiNN(features=0), "features is 0; it must be a whole number from 1."),
    (lambda: PaiNN(layers=-1), "layers is -1; it must be a whole number from 1."),
    (lambda: PaiNN(n_rbf=1), "n_rbf is 1; it must be a whole number from 2."),
    (lambda: PaiNN(cutoff=0), "cutoff is 0; it must be a finite number above 0."),
    (lambda: PaiNN(cutoff=math.nan), "cutoff is nan; it must be a finite number above 0."),
    (lambda: from_record({}), "a capture has a step, and this record has only nothing."),
    (lambda: from_record({"step": 1, "x":3}), "'x' is not the key of a reading; expected debug/<site>_<statistic>,"),
    (lambda: sweep([dict(run="R2", seed="x")], EMPTY),
     "job 0, run R2, seed x: seed is 'x'; it must be a valid integer."),
    (lambda: sweep([dict(run="R2")], EMPTY, workers=0), "workers is 0; it must be a whole number from 1."),
    (lambda: find_grid("nope"), "grid is 'nope'; the grids are original, seeds, rates, leave_one_out,"),
    (lambda: find_grid("x.toml"), "grid is 'x.toml', which cannot be read: No such file or directory."),
    (lambda: leave_one_out("R0"), "run is 'R0', which has no remedy; give a recipe that has some, as R2."),
    (lambda: factorial("R1", ["residual_scale_mixing"]),
     "the remedies are ['residual_scale_mixing']; a factorial needs two at"),
    (lambda: factorial("R2", ["nope"]), "'nope' is no remedy of R2; it has filter_gain, tanh_message_scale,"),
    (lambda: Watching(net, every=0), "every is 0; it must be a whole number from 1."),
    (lambda: Watching(net, every="2"), "every is '2'; it must be a whole number from 1."),
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
    (lambda: m(c, pos[:, :2], vel), "pos has shape (3, 2); expected (nodes, 3) or (B, N, 3)."),
    (lambda: m(c, pos, None), "vel has shape None; expected that of pos, (3, 3)."),
    (lambda: m(c[:2], pos, vel), "charge has shape (2,), pos (3, 3); expected charge (3,)."),
    (lambda: m(c, pos, vel[:2]), "vel has shape (2, 3); expected that of pos, (3, 3)."),
    (lambda: m(c[:0], pos[:0], vel[:0]), "pos has shape (0, 3): the graph is empty; give at least one node."),
    (lambda: m(c.double(), pos.double(), vel.double()),
     "charge is torch.float64, but the model is torch.float32; convert with .to(torch.floa"),
    (lambda: m(c.long(), pos, vel),
     "charge is torch.int64, but the model is torch.float32; convert with .to(torch.float3"),
    (lambda: m(c, pos, vel, torch.zeros(3, 2).long()),
     "edge_index is torch.int64 of shape (3, 2); expected torch.int64 of shape (2, E)."),
    (lambda: m(c, pos, vel, torch.zeros(2, 3).int()),
     "edge_index is torch.int32 of shape (2, 3); expected torch.int64 of shape (2, E)."),
    (lambda: m(c, pos, vel, torch.full((2, 2), 5)), "edge_index holds 5 to 5, but there are 3 nodes, 0 to 2."),
    (lambda: m(c, pos, vel, torch.full((2, 2), -1)), "edge_index holds -1 to -1, but there are 3 nodes, 0 to 2."),
    (lambda: m(c[None], pos[None], vel[None], torch.zeros(2, 1).long()),
     "pos has shape (1, 3, 3); with edge_index it must be (nodes, 3)."),
    (lambda: m([0, 0, 0], pos, vel), "charge is a list; give a tensor."),
    (lambda: m(c.numpy(), pos.numpy(), vel.numpy()), "charge is a ndarray; give a tensor."),
    (lambda: m(c, pos[:, 0], vel), "pos has shape (3,); expected (nodes, 3) or (B, N, 3)."),
    (lambda: PaiNN(aggregation="max"), "aggregation is 'max'; it must be 'mean' or 'sum'."),
    (lambda: PaiNN(aggregation=None), "aggregation is None; it must be 'mean' or 'sum'."),
    (lambda: PaiNN(filter_widths=(0,)), "a number in filter_widths is 0; it must be a whole number from 1."),
    (lambda: PaiNN(filter_widths=8), "filter_widths is 8; give a tuple of whole numbers, or ()."),
    (lambda: PaiNN(n_types=0), "n_types is 0; it must be a whole number from 1."),
    (lambda: PaiNN(features=True), "features is True; it must be a whole number from 1."),
    (lambda: PaiNN(layers=1.0), "layers is 1.0; it must be a whole number from 1."),
    (lambda: PaiNN(cutoff="5"), "cutoff is '5'; it must be a finite number above 0."),
    (lambda: PaiNN.from_schnetpack({}, 5.0),
     "these weights are not the state dict of a SchNetPack `representation.PaiNN` whose la"),
    (lambda: PaiNN.from_schnetpack(None, 5.0), "weights is None; give a state dict."),
    (lambda: PaiNN.from_schnetpack(net.state_dict(), 5.0),
     "these weights are not the state dict of a SchNetPack `representation.PaiNN` whose la"),
    (lambda: PaiNN.from_schnetpack([1], 5.0), "weights is [1]; give a state dict."),
    (lambda: edges_within(pos, 0.0), "cutoff is 0.0; it must be a finite number above 0."),
    (lambda: edges_within(pos, -1.0), "cutoff is -1.0; it must be a finite number above 0."),
    (lambda: edges_within(pos, math.nan), "cutoff is nan; it must be a finite number above 0."),
    (lambda: edges_within(pos[:, :2], 1.0), "pos has shape (3, 2); expected (nodes, 3), one world."),
    (lambda: edges_within(pos, "1"), "cutoff is '1'; it must be a finite number above 0."),
    (lambda: gravity(1, -1, frames=2), "seed is -1; it must be a whole number from 0."),
    (lambda: gravity("1"), "n_traj is '1'; it must be a whole number from 1."),
    (lambda: gravity(1, frames=1.5), "frames is 1.5; it must be a whole number from 1."),
    (lambda: charged([-1]), "index is [-1]; charged needs trajectory numbers from 0, at least one."),
    (lambda: charged([]), "index is []; charged needs trajectory numbers from 0, at least one."),
    (lambda: charged("a"), "index is 'a'; give a number of trajectories, or a list of their numbers."),
    (lambda: charged(1, frames=0), "frames is 0; a charged trajectory has from 1 to 49."),
    (lambda: charged(1, frames=99), "frames is 99; a charged trajectory has from 1 to 49."),
    (lambda: charged(1.5), "index is 1.5; give a number of trajectories, or a list of their numbers."),
    (lambda: charged(1, seed=-1, frames=2), "seed is -1; it must be a whole number from 0."),
    (lambda: held_out("train"), "split is 'train'; held-out splits are 'val' and 'test'."),
    (lambda: held_out(n_traj=0), "n_traj is 0; it must be a whole number from 1."),
    (lambda: held_out(n_frames=0), "n_frames is 0; gravity has 1 to 999 frames to predict from."),
    (lambda: held_out(n_frames=9999), "n_frames is 9999; gravity has 1 to 999 frames to predict from."),
    (lambda: held_out(seed=-1), "seed is -1; it must be a whole number from 0."),
    (lambda: held_out(system="charged"), "system is 'charged'; give a System, as SYSTEMS['gravity']."),
    (lambda: nbody_small(-1), "n_traj is -1; it must be a whole number from 1."),
    (lambda: nbody_small("a"), "n_traj is 'a'; it must be a whole number from 1."),
    (lambda: nbody_small(1, system=None), "system is None; give a System, as SYSTEMS['gravity']."),
    (lambda: plot_heatmap(stats, "nope"),
     "there is no statistic 'nope'; there are filter_max, filter_rms, filter_nonfinite, fi"),
    (lambda: plot_heatmap(None), "None is no path of a run directory."),
    (lambda: plot_heatmap(none), "there are no captures; debug_layer_stats_every=1 takes one at every step."),
    (lambda: plot_heatmap(NOWHERE / "nowhere"), "/nowhere' is no run directory: it is not there."),
    (lambda: plot_heatmap(3), "3 is no path of a run directory."),
    (lambda: plot_heatmap(pd.DataFrame({"a": [1]})),
     "this table has no column step, site, stat, value; give Run.stats, or a run directory"),
    (lambda: plot_growth(stats, "x"),
     "there is no statistic 'x'; there are filter_max, filter_rms, filter_nonfinite, filte"),
    (lambda: plot_growth(none), "there are no captures; debug_layer_stats_every=1 takes one at every step."),
    (lambda: plot_heatmaps(none), "there are no captures; debug_layer_stats_every=1 takes one at every step."),
    (lambda: plot_comparison({}), "runs is {}; give runs by name, as {'R2': Run('runs/painn/…')}."),
    (lambda: plot_comparison([stats]),
     "; give runs by name, as {'R2': "),
    (lambda: plot_comparison({"a": stats}, "x"),
     "there is no statistic 'x'; there are filter_max, filter_rms, filter_nonfinite, filte"),
    (lambda: plot_runs({}), "runs is {}; give runs by name, as {'R2': Run('runs/painn/…')}."),
    (lambda: plot_runs({"a": good}, "x"),
     "there is no statistic 'x'; there are filter_max, filter_rms, filter_nonfinite, filte"),
    (lambda: plot_runs({"a": good}, layers=[99]),
     "there are no captures; debug_layer_stats_every=1 takes one at every step."),
    (lambda: plot_pass(stats), "there are captures of 64 steps; plot_pass draws one, as stats[stats.step == 3]."),
    (lambda: plot_pass(none), "there are no captures; debug_layer_stats_every=1 takes one at every step."),
    (lambda: plot_pass(stats[(stats.step == 0) & (stats.stat == "dq_max")]),
     "these captures have none of mix.q, mix.mu, inter.scalar_msg, inter.vector_msg; plot_"),
    (lambda: plot_saturation(stats[stats.kind == "max"]),
     "no stabilizer with a limit was read in these captures; have one, as clip_q_value, be"),
    (lambda: plot_saturation(none), "there are no captures; debug_layer_stats_every=1 takes one at every step."),
    (lambda: plot_before_after(stats[stats.kind == "max"]),
     "no stabilizer was read in these captures; have one, as clip_q_value, before."),
    (lambda: plot_loss(pd.DataFrame()),
     "this table has no column step, pos_dt, vel; give Run.metrics, or a run directory."),
    (lambda: plot_loss(NOWHERE / "no"), "/no' is no run directory: it is not there."),
    (lambda: lost_in(stats, ["float12"]),
     "dtypes has 'float12'; give names of floating-point types, as float8_e4m3fn, float8_e"),
    (lambda: lost_in(stats, ["int64"]),
     "dtypes has 'int64'; give names of floating-point types, as float8_e4m3fn, float8_e5m"),
    (lambda: compare(packed(PACKED), "nope"),
     "baseline is 'nope'; the variants are "),
    (lambda: conclusion(pd.DataFrame()), "this table has no column setup; give what `compare` returns."),
    (lambda: survival(3, 2), "survived is 3 and seeds 2; no more can survive than there are."),
    (lambda: survival(0, 0), "seeds is 0; it must be a whole number from 1."),
    (lambda: seeds(original(), 0), "seeds is 0; it must be a whole number from 1."),
    (lambda: seeds([dict(run="R2", seed=1)], 2),
     "the job {'run': 'R2', 'seed': 1} has its seed already; leave it out, or do not cross"),
    (lambda: rates("R9"), "run is 'R9'; the recipes are R0, R1, R2, R3, or give the path of a .toml file."),
    (lambda: factorial("R0"), "run is 'R0', which has no remedy; give a recipe that has some, as R2."),
    (lambda: only_one("R0"), "run is 'R0', which has no remedy; give a recipe that has some, as R2."),
    (lambda: single("R9"), "run is 'R9'; the recipes are R0, R1, R2, R3, or give the path of a .toml file."),
    (lambda: packed(PACKED).captures("nope"),
     "run_id is 'nope'; the packed runs are "),
    (lambda: Statistic("a.b", None, None),
     "'a.b' is no name of a statistic; expected a word of a-z, 0-9 and _ that keys of laye"),
    (lambda: Statistic("", None, None),
     "'' is no name of a statistic; expected a word of a-z, 0-9 and _ that keys of layer_s"),
    (lambda: Remedies(clip_q=1),
     "clip_q is no setting; did you mean clip_q_value? The settings are prenorm_q, prenorm"),
    (lambda: Remedies(clip_q_value=-1), "clip_q_value is -1; it must be greater than 0, or off."),
    (lambda: Remedies(clip_q_value="a"), "clip_q_value is 'a'; it must be a valid number, or off."),
    (lambda: Remedies(clip_q_value=True), "clip_q_value is True; it must be a number, or off."),
    (lambda: ScaledTanh(0), "the strength of ScaledTanh is 0; it must be a finite number above 0."),
    (lambda: Scale(-1), "the strength of Scale is -1; it must be a finite number above 0."),
    (lambda: SoftClipNorm(math.inf),
     "the strength of SoftClipNorm is inf; it must be a finite number above 0."),
    (lambda: Scale("x"), "the strength of Scale is 'x'; it must be a finite number above 0."),
    (lambda: new_experiment("R0", NOWHERE / "r", "a/b"), "name is 'a/b'; use letters, digits, '_', '-' and '.'."),
    (lambda: new_experiment("R0", NOWHERE / "r", ""), "name is ''; use letters, digits, '_', '-' and '.'."),
    (lambda: new_experiment("R0", NOWHERE / "r", "a" * 300),
     "name is 'aaaaaaaaaaaaaaaaaaaa' and 280 letters more; use at most 200."),
    (lambda: new_experiment("R0", __file__), "', which cannot be written (Not a directory); give another."),
    (lambda: new_experiment("R0", NOWHERE / "r", "a\nb"), "name is 'a\\nb'; use letters, digits, '_', '-' and '.'."),
    (lambda: LightningWatch(every=0), "every is 0; it must be a whole number from 1."),
    (lambda: TrainerWatch(every=1.5), "every is 1.5; it must be a whole number from 1."),
    (lambda: watched_at("a"), "step is 'a'; it must be a whole number from 0."),
    (lambda: examine(None, x), "model is None; give a torch.nn.Module."),
    (lambda: examine(net, x, step="a"), "step is 'a'; it must be a whole number from 0."),
    (lambda: headroom(net, x, scaled=9),
     "no input is scaled: `scaled` is 9, and there is no floating-point tensor; give the p"),
    (lambda: degree(None, x), "model is None; give a torch.nn.Module."),
    (lambda: degree(net, x, doublings=1.5), "doublings is 1.5; it must be a whole number from 1."),
    (lambda: sweep([dict(run="R2")], None), "runs_dir is None; give the path of a folder."),
    (lambda: sweep(None, EMPTY), "jobs is None; give a list, as [dict(run='R2', seed=1)]."),
    (lambda: sweep([dict(run="R2")], EMPTY, executor=ThreadPoolExecutor()),
     "executor has threads; runs need a process each."),
    (lambda: sweep([dict(run="R2", clip=3)], EMPTY),
     "job 0, run R2, clip 3: clip is no setting. The settings are prenorm_q, prenorm_mu, f"),
    (lambda: resolve(["R2"]), "run is ['R2']; the recipes are R0, R1, R2, R3, or give the path of a .toml file."),
    (lambda: new_experiment("R0", 5), "runs_dir is 5; give the path of a folder."),
    (lambda: LayerScale(1.0, -1), "features is -1; it must be a whole number from 1."),
    (lambda: LayerScale(1.0, 0.5), "features is 0.5; it must be a whole number from 1."),
    (lambda: painn_nbody("8"), "batch_size is '8'; it must be a whole number from 1."),
    (lambda: painn_nbody(4.5), "batch_size is 4.5; it must be a whole number from 1."),
    (lambda: painn_nbody(4, seed=-1), "seed is -1; it must be a whole number from 0."),
    (lambda: painn_nbody(4, system="gravity"), "system is 'gravity'; give a System, as SYSTEMS['gravity']."),
    (lambda: PaiNN(features="8"), "features is '8'; it must be a whole number from 1."),
    (lambda: from_record([1]), "a record is a mapping, and this is [1]."),
    (lambda: from_record({"step": "a"}), "step is 'a'; expected is a number"),
    (lambda: from_record({"step": 1.5}), "step is 1.5; expected is the number of a step."),
    (lambda: from_record({"step": 1, "debug/q_abs_max": [1]}), "debug/q_abs_max is [1]; expected is a number"),
    (lambda: to_json({1, 2}), "{1, 2} is nothing that JSON holds ("),
    (lambda: to_json({"a": x}), "is nothing that JSON holds (Object of type Tensor is not JSON serializable)"),
    (lambda: list(Records(EMPTY)), "tests is a folder; give a file."),
    (lambda: Records(NOWHERE / "x.jsonl").append({}), "nowhere is no folder; make it."),
    (lambda: write_atomic(EMPTY, "x"), "tests is a folder; give a file."),
    (lambda: write_atomic(NOWHERE / "x", "x"), "nowhere is no folder; make it."),
    (lambda: save_atomic(NOWHERE / "x", {}), "nowhere is no folder; make it."),
    (lambda: to_csv([], EMPTY), "tests is a folder; give a file."),
    (lambda: sweep([dict(run="R2")], EMPTY, workers="2"), "workers is '2'; it must be a whole number from 1."),
    (lambda: sweep([dict(run="R2")], EMPTY, workers=True), "workers is True; it must be a whole number from 1."),
    (lambda: attach(net, "0", lambda: Clamp(1), input="zz"), "input is 'zz', and Linear takes input."),
    (lambda: attach(net, "0", lambda: Clamp(1), input=7), "input is 7, and Linear takes input."),
    (lambda: numberless(), "gets a stabilizer, but no tensor comes into Identity as 'input'; give `input`, its"),
    (lambda: watching(net, run_dir=__file__), ", which is a file; give a folder."),
    (lambda: resolve("R2", clip_mu_norm=np.bool_(True)), "True_; it must be a number, or off."),
    (lambda: resolve("R2", checkpoint_seconds=True), "checkpoint_seconds is True; it must be a number."),
    (lambda: Clamp(10**400), "0; it must be a finite number above 0."),
    (lambda: from_record({"step": 1e300}), "step is 1e+300; expected is the number of a step."),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_mistake_is_told_in_a_sentence(case):
    call, sentence = CASES[case]
    with pytest.raises(ValueError) as told: call()
    assert sentence in str(told.value)
    assert not NOWHERE.exists() and not attached(net)
