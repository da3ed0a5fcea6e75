"""SchNetPack's PaiNN as a process that trains one step whenever it is told to.

It runs in the environment `.venv-zoo`. It reads its settings as one line of JSON and writes weights and outputs
to the file named there. Then it answers each line with the seconds of a training step.
"""

import json
import sys
import time
import typing

import torch
import torch.utils.data.dataloader as dataloader

dataloader.T_co = typing.TypeVar("T_co", covariant=True)  # SchNetPack 2.1.1 looks for it there

from schnetpack import properties  # noqa: E402
from schnetpack.nn import CosineCutoff, GaussianRBF  # noqa: E402
from schnetpack.representation import PaiNN  # noqa: E402

s = json.loads(sys.stdin.readline())
torch.set_num_threads(s["threads"])
torch.manual_seed(0)
dtype = getattr(torch, s["dtype"])
rbf, cutoff_fn = GaussianRBF(s["n_rbf"], s["cutoff"]), CosineCutoff(s["cutoff"])
model = PaiNN(s["features"], s["layers"], radial_basis=rbf, cutoff_fn=cutoff_fn).to(dtype)
given = torch.load(s["inputs"])
z, pos, (j, i) = given["z"].flatten(), given["pos"].flatten(0, 1).to(dtype), given["edge_index"]
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)


def represent():
    out = model({properties.Z: z, properties.Rij: pos[j] - pos[i], properties.idx_i: i, properties.idx_j: j})
    return out["scalar_representation"], out["vector_representation"]


with torch.no_grad(): torch.save({"weights": model.state_dict(), "output": represent()}, s["outputs"])
for _ in sys.stdin:
    start = time.perf_counter()
    loss = sum(x.square().mean() for x in represent())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(time.perf_counter() - start, flush=True)
