"""Checks and benchmarks on a GPU: does it compute what the CPU computes, and how fast are the steps of a run?

`make gpu` runs this, in under ten minutes, with the Python given as GPU_PYTHON. That needs a torch that sees the GPU
and the packages that pyproject.toml names. The result is benchmarks/results/gpu.json. A step is one of
`run_experiment` as a user gets it, from batch to batch: with the captures of its recipe, its limits, its optimizer and
its records. `eager` is the same without CUDA graphs.
"""

import math
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import torch
from tqdm.auto import tqdm

from common import summarize, write
from painn_nb.ablation import run_experiment
from painn_nb.data import nbody_small, painn_nbody
from painn_nb.process import compile_layers
from painn_nb.recipes import RECIPES, build_model, resolve
from painn_nb.tasks import TASKS
from painn_nb.trainer import errors_of
from painn_nb.watch import examine

STEPS, WARMUP = 120, 20  # of each run, and how many of these are not counted
VARIANTS = {
    "eager": dict(recorded=False),
    "graph": dict(),
    "graph, TF32": dict(precision="tf32"),
    "graph, bfloat16": dict(precision="bfloat16"),
}
COMPILED = {  # each takes up to a minute before it begins
    "compiled, graph": dict(compiled=True),
    "compiled, graph, bfloat16": dict(compiled=True, precision="bfloat16"),
}


def check(device, runs=tuple(RECIPES), modes=("eager", "compiled")):
    "Largest relative difference of loss, gradients and captures between device and CPU, by recipe, eager and compiled."
    batch, apart = nbody_small(16, frames=2)[0], {}
    for run in tqdm(runs, desc="checks"):
        there, here = (build_model(resolve(run, device=d, features=32, layers=3)) for d in (device, "cpu"))
        there.load_state_dict(here.state_dict())
        for mode in modes:
            if mode == "compiled": compile_layers(there)
            numbers = []
            for model in (there, here):
                model.zero_grad()
                loss = sum(errors_of(model, batch.like(model)).values())
                loss.backward()
                gradients = [p.grad.norm().item() for p in model.parameters() if p.grad is not None]
                numbers.append([loss.item(), *gradients, *examine(model, *batch.like(model).inputs).values()])
            apart[f"{run} {mode}"] = max(abs(a - b) / max(abs(b), 1e-12) for a, b in zip(*numbers))
    worst = max(apart, key=apart.get)
    if not apart[worst] < 1e-6:
        sys.exit(f"{worst} differs from the CPU by {apart[worst]:.1e}; expected less than 1e-6.")
    return apart


def step_seconds(run, recorded=True, compiled=False, steps=STEPS, warmup=WARMUP, **settings):
    "Seconds of each step of a run after the first ones; one that is not finite is skipped."
    begun = []
    def batches(*told, **more):
        for batch in painn_nbody(*told, **more, frames=100):  # a tenth of the usual, so that the first comes soon
            begun.append(time.perf_counter())
            yield batch
    switches = {
        "trainer.RECORD_FROM": 1 if recorded else math.inf, "ablation.COMPILE_FROM": 1 if compiled else math.inf,
    }
    asked = replace(TASKS["next_frame"], train=batches)
    with ExitStack() as stack:
        for name, value in switches.items(): stack.enter_context(patch(f"painn_nb.{name}", value))
        stack.enter_context(patch.dict(TASKS, next_frame=asked))
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        run_experiment(run, folder, epochs=steps, dtype="float32", nonfinite="skip", **settings)
    return [end - begin for begin, end in pairwise(begun)][warmup:]


def steps(run, batch_size, variants, **settings):
    "How fast the steps of a recipe are in these variants, a row for each."
    seconds = {
        name: step_seconds(run, batch_size=batch_size, **how, **settings)
        for name, how in tqdm(variants.items(), desc=f"{run}, {batch_size} worlds")
    }
    return [{"recipe": run, "batch": batch_size, **row} for row in summarize(seconds, "eager")]


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("no GPU here: torch.cuda.is_available() is False. On a machine with one: make gpu GPU_PYTHON=python3")
    apart, rows = check("cuda"), []
    for batch_size, variants in ((128, VARIANTS | COMPILED), (1024, VARIANTS)):
        for run in ("R0", "R2", "R3"):
            rows += steps(run, batch_size, variants, device="cuda")
            write("gpu", steps=STEPS, apart=apart, rows=rows)
    for r in rows:
        setup = f"{r['recipe']}, {r['batch']} worlds, {r['variant']}"
        print(f"{setup}: {r['ms']:.2f} ms, {r['times_faster']:.1f} times faster than eager")
