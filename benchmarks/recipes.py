"""What a training step of each recipe costs beside R0's, in turns in one process, and in percent of it: the median
over rounds and its quartiles. The size is that of nbs/22_recipe.ipynb, which shows them. `make bench` runs this.
"""

import statistics

import torch
from common import added, take_turns, write
from diagnostics import train_step

from painn_nb.data import painn_nbody
from painn_nb.process import can_compile, compile_layers, reuse_memory
from painn_nb.recipes import RECIPES, build_model, resolve

ROUNDS = 40


def stepper(run, batch, compiled):
    model = build_model(resolve(run, dtype="float32", features=64, device="cpu"))
    if compiled: compile_layers(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    return lambda: train_step(model, batch.like(model), optimizer)


def costs(compiled):
    mode, batch = "compiled" if compiled else "eager", next(painn_nbody(128))
    seconds = take_turns({run: stepper(run, batch, compiled) for run in RECIPES}, ROUNDS, desc=mode)
    for run, percent, quartiles in added(seconds, "R0"):
        yield {"run": run, "mode": mode, "step_ms": 1e3 * statistics.median(seconds[run]), "percent": percent,
               "quartiles": quartiles}


if __name__ == "__main__":
    reuse_memory()
    rows = [row for compiled in (False, *([True] if can_compile() else [])) for row in costs(compiled)]
    for row in rows: print("{run} {mode}: {step_ms:.0f} ms, {percent:+.1f} %".format(**row))
    write("recipes", rounds=ROUNDS, rows=rows)
