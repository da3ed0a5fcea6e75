"""SchNetPack's PaiNN as a process that trains one step whenever it is told to.

It runs in the environment `.venv-zoo`. It reads its settings as one line of JSON and writes weights and outputs
to the file named there. Then it answers each line with the seconds of a training step.
"""

import json
import sys
import time

import torch

from peer import schnetpack

s = json.loads(sys.stdin.readline())
torch.set_num_threads(s["threads"])
torch.manual_seed(0)
dtype = getattr(torch, s["dtype"])
model, called = schnetpack(s["features"], s["layers"], s["n_rbf"], s["cutoff"])
model.to(dtype)
given = torch.load(s["inputs"])
z, pos = given["z"].flatten(), given["pos"].flatten(0, 1).to(dtype)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, fused=True)


def represent(): return called(z, pos, given["edge_index"])


with torch.no_grad(): torch.save({"weights": model.state_dict(), "output": represent()}, s["outputs"])
for _ in sys.stdin:
    start = time.perf_counter()
    loss = sum(x.square().mean() for x in represent())
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    print(time.perf_counter() - start, flush=True)
