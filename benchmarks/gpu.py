"""Checks and benchmarks on a GPU: does it compute what the CPU computes, and how fast is a training step?

`make gpu` runs this, in under ten minutes, with the Python given as GPU_PYTHON. That needs a torch that sees the GPU
and the packages that pyproject.toml names. The result is benchmarks/results/gpu.json. The variants of a step take
turns, as in step.py.
"""

import sys
import tempfile
import time

import torch
from tqdm.auto import tqdm

from common import fully_connected, summarize, take_turns, write
from painn_nb.ablation import run_experiment
from painn_nb.data import mse, nbody_small, painn_nbody
from painn_nb.model import PaiNN
from painn_nb.process import compile_layers
from painn_nb.recipes import RECIPES, build_model, resolve
from painn_nb.trainer import errors_of
from painn_nb.watch import examine

ROUNDS = 20


def wait(device):
    if device == "cuda": torch.cuda.synchronize()


def check(device):
    "Largest relative difference of loss, gradients and captures between device and CPU, by recipe, eager and compiled."
    batch, apart = nbody_small(16, frames=2)[0], {}
    for run in tqdm(RECIPES, desc="checks"):
        there, here = (build_model(resolve(run, device=d, features=32, layers=3)) for d in (device, "cpu"))
        there.load_state_dict(here.state_dict())
        for mode in ("eager", "compiled"):
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


def training_step(model, batch, device, bfloat16=False, tf32=False, flat=None, graph=False):
    "A step as a function that returns its seconds; `graph` records it once as a CUDA graph and replays it."
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True, capturable=device == "cuda")
    def loss():
        if flat is None: return sum(errors_of(model, batch).values())
        charge, pos, vel, edges = flat
        pos_dt, vel_next = model(charge, pos, vel, edges)
        return sum(mse(pos_dt.view_as(batch.pos), vel_next.view_as(batch.pos), batch).values())
    def work():
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16): value = loss()
        optimizer.zero_grad(set_to_none=not graph)
        value.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    if graph:
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(3): work()
        torch.cuda.current_stream().wait_stream(stream)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded): work()
    def step():
        torch.backends.cuda.matmul.allow_tf32 = tf32
        wait(device)
        start = time.perf_counter()
        recorded.replay() if graph else work()
        wait(device)
        return time.perf_counter() - start
    return step


def steps(device, batch_size):
    batch = next(painn_nbody(batch_size, frames=3))
    edges = fully_connected(*batch.charge.shape).to(device)
    def model(compiled=False):
        made = PaiNN().to(device)
        if compiled:
            for layer in made.backbone.layers.values(): layer.compile(fullgraph=True, dynamic=False)
        return made
    torch.compiler.reset()
    like = batch.to(device, torch.float32)
    def variant(compiled=False, **options): return training_step(model(compiled), like, device, **options)
    flat = (*(x.flatten(0, 1) for x in like.inputs), edges)
    variants = {
        "scatter": variant(flat=flat), "eager": variant(),
        "compiled": variant(True), "compiled, bfloat16": variant(True, bfloat16=True),
    }
    if device == "cuda":
        variants |= {
            "compiled, TF32": variant(True, tf32=True),
            "CUDA graph": variant(True, graph=True), "CUDA graph, bfloat16": variant(True, bfloat16=True, graph=True),
        }
    rows = summarize(take_turns(variants, ROUNDS, warmup=4, desc=f"{batch_size} worlds"), "eager")
    return [{"batch": batch_size, **row} for row in rows]


def whole_run(device):
    "Median seconds of a step of R2 as a user gets it, float64 with a capture every step."
    with tempfile.TemporaryDirectory() as folder:
        metrics = run_experiment("R2", folder, device=device).metrics
        return {"steps": len(metrics), "step_seconds": metrics.seconds.median()}


if __name__ == "__main__":
    if not torch.cuda.is_available():
        sys.exit("no GPU here: torch.cuda.is_available() is False. On a machine with one: make gpu GPU_PYTHON=python3")
    apart = check("cuda")
    rows = [row for batch_size in (128, 1024) for row in steps("cuda", batch_size)]
    for r in rows:
        print(f"{r['batch']} worlds, {r['variant']}: {r['ms']:.2f} ms, {r['times_faster']:.1f} times faster than eager")
    write("gpu", rounds=ROUNDS, apart=apart, rows=rows, run=whole_run("cuda"))
