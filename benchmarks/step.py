"""One training step (forward, backward, clipping, AdamW): this package beside SchNetPack and a scatter implementation.

All variants are the same network in the paper's form with the same weights, on the same batch of fully connected
worlds, with the same threads and dtype, and take turns. `scatter` is this package given an edge list: rows gathered
by an index, sums scattered by one, filters for every edge, as research code has it. SchNetPack runs as a process in
an environment of its own (`make .venv-zoo/.ready`) and is left out with a message where that is missing.
`matrix products` is the time of the multiplications alone: the floor for any implementation of this network that
multiplies as PyTorch does. A profile tells where the time goes, by kind of operation. `make bench` runs this.
"""

import json
import subprocess
import tempfile
import time
from pathlib import Path

import torch
from torch.nn.functional import linear
from torch.profiler import ProfilerActivity, profile

from common import fully_connected, summarize, take_turns, write
from peer import PYTHON
from painn_nb.data import nbody_small
from painn_nb.model import PaiNN
from painn_nb.process import can_compile, compile_layers

ROUNDS, LAYERS, N_RBF, CUTOFF, N = 15, 6, 64, 10.0, 5
SETUPS = [
    dict(features=128, batch=128, dtype="float32"),
    dict(features=64, batch=1024, dtype="float32"),
    dict(features=128, batch=128, dtype="float64"),
]


class SchNetPack:
    "A worker process; its weights and outputs are there once it has started."
    def __init__(self, folder, batch, **settings):
        torch.save(batch, folder / "inputs.pt")
        command = [PYTHON, "-W", "ignore", Path(__file__).parent / "schnetpack_worker.py"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.ask({"inputs": str(folder / "inputs.pt"), "outputs": str(folder / "outputs.pt"), **settings})
        self()
        saved = torch.load(folder / "outputs.pt")
        self.weights, self.output = saved["weights"], saved["output"]

    def ask(self, line): print(json.dumps(line), file=self.process.stdin, flush=True)

    def __call__(self):
        self.ask("step")
        return float(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def representation(model, z, pos, edge_index=None): return model.representation(z, pos, edge_index=edge_index)


def difference(a, b):
    "The largest one, relative to the largest entry."
    return ((a - b).abs().max() / b.abs().max()).item()


def training_step(model, z, pos, edge_index=None):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)
    def step():
        start = time.perf_counter()
        loss = sum(x.square().mean() for x in representation(model, z, pos, edge_index))
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return time.perf_counter() - start
    return step


def product_shapes(features, batch):
    "Rows, inputs and outputs of each Linear in a layer, taken once per node, vector component or pair."
    nodes, pairs, f = batch * N, batch * N * (N - 1) // 2, features
    return [(pairs, N_RBF, 3 * f), (nodes, f, f), (nodes, f, 3 * f),
            (3 * nodes, f, 2 * f), (nodes, 2 * f, f), (nodes, f, 3 * f)]


def matrix_products(features, batch, dtype):
    """The products of a step: one of the forward, and two of the backward pass, for each Linear.

    But for the filters: nobody asks how the loss changes with the distances."""
    shapes = product_shapes(features, batch)
    sides = [tuple(torch.randn(s, dtype=dtype) for s in ((rows, a), (b, a), (rows, b))) for rows, a, b in shapes]
    def step():
        start = time.perf_counter()
        for _ in range(LAYERS):
            for k, (x, w, g) in enumerate(sides):
                linear(x, w)
                if k > 0: g @ w  # the filters come first
                g.mT @ x
        return time.perf_counter() - start
    return step


KINDS = {  # of operations, by how torch calls them
    "matrix products": ("mm", "addmm", "bmm"),
    "element by element, and sums": (
        "mul", "mul_", "add", "add_", "sum", "silu", "silu_backward", "sigmoid", "pow", "exp", "div", "cos", "neg"),
    "gathers and copies": ("index_select", "index_add_", "copy_", "cat", "fill_", "zero_"),
    "clipping and AdamW": ("_fused_adamw_", "linalg_vector_norm"),
}


def kind_of(name):
    if "CompiledFxGraph" in name: return "loops that the compiler made"
    return next((kind for kind, names in KINDS.items() if name.removeprefix("aten::") in names), "the rest")


def profiled(step, steps=5):
    "Milliseconds of a step by kind of operation."
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        for _ in range(steps): step()
    found = {}
    for event in seen.key_averages():
        kind = kind_of(event.key)
        found[kind] = found.get(kind, 0) + event.self_cpu_time_total / 1e3 / steps
    return found


def measure(features, batch, dtype):
    z, pos = torch.ones(batch, N, dtype=torch.long), nbody_small(batch, frames=2)[0].pos
    edge_index = fully_connected(batch, N)
    settings = dict(features=features, layers=LAYERS, n_rbf=N_RBF, cutoff=CUTOFF, dtype=dtype)
    variants, models, peer = {}, {}, None
    with tempfile.TemporaryDirectory() as folder:
        if PYTHON.exists():
            inputs = {"z": z, "pos": pos, "edge_index": edge_index}
            peer = SchNetPack(Path(folder), inputs, **settings, threads=torch.get_num_threads())
        else: print("SchNetPack is left out: .venv-zoo is missing; make .venv-zoo/.ready builds it.")
        pos = pos.to(getattr(torch, dtype))
        for name in ("scatter", "eager", *(["compiled"] if can_compile() else [])):
            torch.manual_seed(0)
            if peer: models[name] = PaiNN.from_schnetpack(peer.weights, CUTOFF)
            else: models[name] = PaiNN(features, LAYERS, N_RBF, CUTOFF, "sum", features, (), 100).to(pos.dtype)
        if "compiled" in models: compile_layers(models["compiled"])
        given = dict.fromkeys(models, (z, pos)) | {"scatter": (z.flatten(), pos.flatten(0, 1), edge_index)}
        variants = {"schnetpack": peer} if peer else {}
        variants |= {name: training_step(model, *given[name]) for name, model in models.items()}
        variants["matrix products"] = matrix_products(features, batch, pos.dtype)

        outputs = {name: representation(model, *given[name]) for name, model in models.items()}
        reference = peer.output if peer else outputs["scatter"]
        apart = {name: max(map(difference, out, reference)) for name, out in outputs.items()}
        seconds = take_turns(variants, ROUNDS, desc=f"F={features}, {batch} worlds, {dtype}")
        rows = summarize(seconds, "schnetpack" if peer else "scatter")
        if peer: peer.close()
        seen = {name: profiled(variants[name]) for name in models}
    setup = {"features": features, "batch": batch, "dtype": dtype}
    return [{**setup, **row, "apart": apart.get(row["variant"]), "profile": seen.get(row["variant"])} for row in rows]


if __name__ == "__main__":
    rows = [row for setup in SETUPS for row in measure(**setup)]
    for r in rows:
        setup = f"F={r['features']} B={r['batch']} {r['dtype']} {r['variant']}"
        print(f"{setup}: {r['ms']:.0f} ms, {r['times_faster']:.2f} times faster")
    write("step", rounds=ROUNDS, rows=rows)
