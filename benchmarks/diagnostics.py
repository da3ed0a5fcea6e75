"""What it costs to capture every step: this package beside monitors of the kind other tools have.

Ours, a Composer-style and a HuggingFace-style monitor watch the same training step of the same model, turn by turn
in one process, so that whatever else the machine does falls on all of them. Every figure is the median over rounds
of the difference to the unwatched step of the same round, in percent of it. `make bench` runs this.
"""

import copy
import statistics
import time
from contextlib import contextmanager
from functools import partial

import torch

from common import added, take_turns, write
from painn_nb.data import painn_nbody
from painn_nb.modules import tensors
from painn_nb.process import can_compile, compile_layers
from painn_nb.recipes import build_model, resolve
from painn_nb.sites import sites
from painn_nb.trainer import errors_of
from painn_nb.watch import watch

ROUNDS = 16


@contextmanager
def hooked(model, hook):
    handles = [m.register_forward_hook(hook(name)) for name, m in model.named_modules()]
    try: yield
    finally:
        for handle in handles: handle.remove()


def composer_style(model):
    """As Composer's ActivationMonitor.

    Of inputs and outputs of all modules the norm, mean, maximum and kurtosis over the last dimension, each brought to
    the host."""
    def hook(name):
        def record(module, args, out):
            for part in (*tensors(args), *tensors(out)):
                x = part.detach()
                if x.dim() < 1: continue
                centred = x - x.mean(-1, keepdim=True)
                kurtosis = (centred**4).mean(-1) / (centred**2).mean(-1).square()
                numbers = x.norm(dim=-1).mean(), x.mean(), x.amax(-1).mean(), kurtosis.mean()
                seen[name] = [number.item() for number in numbers]
        return record
    seen = {}
    return hooked(model, hook)


def huggingface_style(model):
    """As DebugUnderflowOverflow.

    The smallest and largest magnitude of weights, inputs and outputs of all modules as text, each searched for NaN and
    Inf."""
    def hook(name):
        def record(module, args, out):
            for x in (*module.parameters(recurse=False), *tensors(args), *tensors(out)):
                size = x.detach().abs()
                text = f"{size.min().item():8.2e} {size.max().item():8.2e} {name}"
                seen[name] = text, x.isnan().any().item() or x.isinf().any().item()
        return record
    seen = {}
    return hooked(model, hook)


def train_step(model, batch, optimizer):
    start = time.perf_counter()
    loss = sum(errors_of(model, batch).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return time.perf_counter() - start


def costs(run, compiled):
    "Milliseconds of an unwatched step, and of each monitor the percent it adds."
    model = build_model(resolve(run, dtype="float32", device="cpu"))
    batch = next(painn_nbody(128)).like(model)
    unwatched = copy.deepcopy(model)
    if compiled:  # compiled sites always read, so a step without readings is one whose sites only hold stabilizers
        for site in sites(unwatched).values(): site.__class__ = torch.nn.Sequential
        compile_layers(model)
        compile_layers(unwatched)
    def stepper(model):
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
        return lambda: train_step(model, batch, optimizer)
    step, plain = stepper(model), stepper(unwatched)
    def captured():
        with watch(model) as w:
            seconds, start = step(), time.perf_counter()
            w.read(0)
            return seconds + time.perf_counter() - start
    def beside(monitor):
        with monitor(unwatched): return plain()
    monitors = {"off": plain, "painn_nb": captured}  # off again: what the noise makes of no difference
    if not compiled:
        others = {"composer_style": composer_style, "huggingface_style": huggingface_style}
        monitors |= {name: partial(beside, monitor) for name, monitor in others.items()}
    mode = "compiled" if compiled else "eager"
    seconds = take_turns({"base": plain} | monitors, ROUNDS, desc=f"{run}, {mode}")
    row = {"run": run, "mode": mode, "step_ms": 1e3 * statistics.median(seconds["base"])}
    for name, percent, quartiles in added(seconds, "base"):
        if name != "base": row |= {f"{name}_percent": percent, f"{name}_quartiles": quartiles}
    return row


if __name__ == "__main__":
    rows = [costs(run, compiled) for compiled in (False, *([True] if can_compile() else [])) for run in ("R0", "R2")]
    for row in rows:
        told = {k: f"{v:.1f}" if isinstance(v, float) else v for k, v in row.items() if not k.endswith("quartiles")}
        print(", ".join(f"{k}={v}" for k, v in told.items()))
    write("diagnostics", rounds=ROUNDS, rows=rows)
