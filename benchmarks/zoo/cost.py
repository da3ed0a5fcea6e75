"""What it costs to look at every module of a network while it trains: painn_nb beside the real peers, in turns.

Runs in the environment `.venv-zoo`. Two networks of realistic size: a transformer, and SchNetPack's PaiNN.
"""

import copy
import statistics
import sys
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import added, take_turns, write  # noqa: E402

from painn_nb.process import reuse_memory  # noqa: E402
from painn_nb.watch import watch  # noqa: E402

ROUNDS = 15


def transformer():
    "Six layers on 8 texts of 128 tokens."
    layer = nn.TransformerEncoderLayer(256, 4, 1024, dropout=0.0, batch_first=True)
    return nn.TransformerEncoder(layer, 6), (torch.randn(8, 128, 256),)


def schnetpack_painn():
    "Six layers on 64 molecules of 12 atoms."
    import networks  # noqa: F401, makes SchNetPack importable
    import schnetpack as spk
    from schnetpack import properties
    atoms = torch.arange(64 * 12)
    edges = torch.cartesian_prod(torch.arange(12), torch.arange(12))
    i, j = edges[edges[:, 0] != edges[:, 1]].T
    idx_i, idx_j = ((12 * torch.arange(64)[:, None] + x).flatten() for x in (i, j))
    pos = 1.5 * torch.randn(len(atoms), 3)
    model = spk.representation.PaiNN(128, 6, spk.nn.GaussianRBF(20, 5.0), spk.nn.CosineCutoff(5.0))
    return model, ({properties.Z: atoms % 9 + 1, properties.Rij: pos[idx_j] - pos[idx_i],
                    properties.idx_i: idx_i, properties.idx_j: idx_j},)


def loss_of(out):
    if not isinstance(out, dict): return out.square().mean()
    return sum(out[f"{kind}_representation"].square().mean() for kind in ("scalar", "vector"))


def stepper(model, inputs):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    def step():
        start = time.perf_counter()
        loss_of(model(*(copy.copy(x) for x in inputs))).backward()
        optimizer.step()
        optimizer.zero_grad()
        return time.perf_counter() - start
    return step


def watched(step, model, every):
    "Seconds per step where every module is read at each `every`-th step."
    def steps():
        with watch(model) as w:
            start = time.perf_counter()
            for k in range(every):
                w.reading = k == 0
                step()
                if w.reading: w.read(k)
            return (time.perf_counter() - start) / every
    return steps


@contextmanager
def huggingface(model):
    "transformers' DebugUnderflowOverflow, which cannot be taken off again: the hooks go with it."
    from transformers.debug_utils import DebugUnderflowOverflow
    before = [(m, copy.copy(m._forward_hooks)) for m in model.modules()]
    DebugUnderflowOverflow(model)
    yield
    for m, hooks in before: m._forward_hooks = hooks


def peers(step, model, inputs):
    def beside(context):
        def steps():
            with context(): return step()
        return steps
    def torchlens():
        import torchlens
        start = time.perf_counter()
        torchlens.trace(model, [copy.copy(x) for x in inputs])
        return time.perf_counter() - start + step()
    found = {"detect_anomaly": beside(lambda: torch.autograd.detect_anomaly(check_nan=True)),
             "huggingface": beside(lambda: huggingface(model)), "torchlens": torchlens}
    for name, monitor in list(found.items()):
        try: monitor()
        except Exception as e:
            print(f"{name} does not work here: {type(e).__name__}: {str(e).splitlines()[0][:100]}")
            del found[name]
    return found


def costs(build):
    torch.manual_seed(0)
    model, inputs = build()
    step = stepper(model, inputs)
    monitors = {"off": step, "painn_nb": watched(step, model, 1), "painn_nb_every_10": watched(step, model, 10)}
    seconds = take_turns({"base": step} | monitors | peers(step, model, inputs), ROUNDS, desc=build.__name__)
    row = {"network": build.__name__, "modules": len(list(model.modules())),
           "step_ms": 1e3 * statistics.median(seconds["base"])}
    for name, percent, quartiles in added(seconds, "base"):
        row |= {f"{name}_percent": percent, f"{name}_quartiles": quartiles}
    return row


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    reuse_memory()  # else page faults, more or fewer from run to run, cost more than what is compared
    rows = [costs(build) for build in (transformer, schnetpack_painn)]
    for row in rows:
        print(", ".join(f"{k}={v:.1f}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
    write("zoo_cost", rounds=ROUNDS, rows=rows)
