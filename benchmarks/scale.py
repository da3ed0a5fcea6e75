"""Time and memory of a training step against the number of bodies, of layers and of channels.

Fully connected worlds up to 500 bodies; beyond, up to 10,000 bodies in a box with on average 30 neighbours within
the cutoff, found anew at each step. Each size is measured in a process of its own. Slopes are those of a straight
line through the logarithms. With neighbours, the paper's form is also measured beside SchNetPack, in its environment
(`make .venv-zoo/.ready`, left out where that is missing), and as scatter implementations have it, with all messages at
once. `make bench` runs this.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

import numpy as np
from tqdm.auto import tqdm

from common import write
from peer import PYTHON, schnetpack

BASE = dict(features=64, layers=3)
SIZES = {
    "bodies, fully connected": [dict(bodies=n) for n in (5, 20, 100, 500)],
    "bodies, 30 neighbours": [dict(bodies=n, neighbours=30) for n in (500, 1000, 3000, 10_000)],
    "layers": [dict(bodies=100, layers=n) for n in (2, 4, 8, 16)],
    "channels": [dict(bodies=100, features=n) for n in (32, 64, 128, 256)],
}


def peak_memory(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def network(form, features, layers, cutoff):
    "A model, and what calls it with charges, positions, velocities and edges."
    from painn_nb.model import PaiNN
    if form is None:
        model = PaiNN(features, layers, cutoff=cutoff)
        return model, model
    paper = features, layers, 64, cutoff
    if form == "schnetpack": model, represent = schnetpack(*paper)
    else:
        model = PaiNN(*paper, "sum", features, (), 100)
        def represent(z, pos, edge_index): return model.representation(z, pos, edge_index=edge_index)
    return model, lambda charge, pos, vel, edge_index: represent(charge.long(), pos, edge_index)


def measure(bodies, features, layers, neighbours=None, reuse=True, parts=True, form=None):
    """Milliseconds of a step, of these the neighbour list, and MiB that the steps added to the process.

    `reuse`: as the trainer does, see `reuse_memory`; `parts`: the messages of a large graph part after part; `form`:
    None for the default network, "ours" or "schnetpack" for the paper's."""
    import torch
    from painn_nb import model as model_module
    from painn_nb.model import edges_within
    from painn_nb.process import reuse_memory
    if reuse: reuse_memory()
    if not parts: model_module.LARGE = 2**62
    torch.manual_seed(0)
    cutoff = 10.0 if neighbours is None else 2.0
    model, call = network(form, features, layers, cutoff)
    edge = (bodies * 4 / 3 * np.pi * cutoff**3 / (neighbours or bodies)) ** (1 / 3)
    pos = edge * torch.rand(bodies, 3) if neighbours else torch.randn(bodies, 3)
    vel, charge = torch.randn(bodies, 3), torch.ones(bodies)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    before, seconds, finding = peak_memory(), [], []
    for _ in range(4):
        start = time.perf_counter()
        edge_index = edges_within(pos, cutoff) if neighbours else None
        finding.append(time.perf_counter() - start)
        loss = sum(x.square().mean() for x in call(charge, pos, vel, edge_index))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
    step, finding = (1e3 * statistics.median(x[1:]) for x in (seconds, finding))
    return {"ms": step, "neighbour_list_ms": finding, "mib": peak_memory() - before}


def measured(**size):
    "`measure` in a process of its own."
    command = [PYTHON if size.get("form") == "schnetpack" else sys.executable, __file__, json.dumps(BASE | size)]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def slope(x, y): return np.polyfit(np.log(x), np.log(y), 1)[0]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(**json.loads(sys.argv[1]))))
        sys.exit()
    rows, slopes = [], {}
    for against, sizes in tqdm(SIZES.items(), desc="scale"):
        name = against.partition(",")[0]
        key = {"channels": "features"}.get(name, name)
        for size in sizes:
            rows.append({"against": against, "value": size[key], **measured(**size)})
            if name == "bodies" and size is sizes[-1]:  # memory matters where there is much of it
                for what in ("reuse", "parts"):
                    without = measured(**size, parts=False, **({"reuse": False} if what == "reuse" else {}))
                    rows[-1] |= {f"{unit}_without_{what}": without[unit] for unit in ("ms", "mib")}
        part = [r for r in rows if r["against"] == against][1:]
        values = [r["value"] for r in part]
        slopes[against] = {unit: slope(values, [r[unit] for r in part]) for unit in ("ms", "mib")}
    ways = {"schnetpack": dict(form="schnetpack")} if PYTHON.exists() else {}
    if not ways: print("SchNetPack is left out: .venv-zoo is missing; make .venv-zoo/.ready builds it.")
    ways |= {"scatter": dict(form="ours", parts=False), "painn_nb": dict(form="ours")}
    peers = [{"bodies": size["bodies"], "way": way, **measured(**size, **how)}
             for size in tqdm(SIZES["bodies, 30 neighbours"], desc="peers") for way, how in ways.items()]
    for r in peers: print(f"{r['way']}, {r['bodies']} bodies: {r['ms']:.0f} ms, {r['mib']:.0f} MiB")
    for r in rows: print(f"{r['against']} {r['value']}: {r['ms']:.0f} ms, {r['mib']:.0f} MiB")
    for against, s in slopes.items(): print(f"slope against {against}: time {s['ms']:.2f}, memory {s['mib']:.2f}")
    write("scale", base=BASE, rows=rows, slopes=slopes, peers=peers)
