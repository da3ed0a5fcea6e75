"""At which speed of the fastest particle does an untrained equivariant network blow up, and how fast from there?

One frame of five gravitating bodies, float64, six layers, several seeds. Only painn_nb's PaiNN takes velocities: they
are scaled. The others take features of each particle, and get a Linear of (charge, speed), as networks on N-body data
do, where they would embed atomic numbers; distances stay as they are. `make zoo` runs this.
"""

import math
import re
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write  # noqa: E402
from networks import mace_input, mace_model, radius_graph, spk  # noqa: E402
from networks import EGNN_Network, GotenNet, SchNet, ViSNet  # noqa: E402
from planted import outputs  # noqa: E402
from schnetpack import properties  # noqa: E402
from tqdm.auto import tqdm  # noqa: E402

from painn_nb.data import fastest_frame, nbody_small, scale_speed  # noqa: E402
from painn_nb.diagnostics import BLOWN  # noqa: E402
from painn_nb.model import Interaction, Mixing, PaiNN, safe_norm  # noqa: E402
from painn_nb.modules import tensors  # noqa: E402
from painn_nb.recipes import resolve  # noqa: E402
from painn_nb.stabilizer import Remedies, stabilize  # noqa: E402

torch.set_default_dtype(torch.float64)
SEEDS, LAYERS, F, R, CUTOFF = 5, 6, 64, 32, 10.0
EXPONENTS = np.arange(-1, 12.01, 0.25)  # of the speeds at which all layers are shown
CHARGE, POS, VEL = (x[0] for x in fastest_frame(nbody_small(64, seed=11, frames=200)))
Z, BATCH = torch.ones(len(POS), dtype=torch.long), torch.zeros(len(POS), dtype=torch.long)
EDGES = radius_graph(POS, CUTOFF, BATCH)


class Features(nn.Module):
    "What stands where atomic numbers are embedded: a Linear of charge and speed, whatever it is asked for."
    def __init__(self, width=F):
        super().__init__()
        self.linear = nn.Linear(2, width)

    def forward(self, *_): return self.linear(torch.stack([CHARGE, self.vel.norm(dim=-1)], -1))


def with_features(model, features, run):
    def pass_on(vel):
        features.vel = vel
        return run()
    return model, pass_on


def painn(recipe="R0"):
    model = stabilize(PaiNN(F, LAYERS, R, CUTOFF), Remedies(**resolve(recipe).active()))
    return model, lambda vel: model(CHARGE[None], POS[None], vel[None])


class ScaledSiLU(nn.SiLU):
    def forward(self, x): return super().forward(x) / 0.6


class FairchemInteraction(Interaction):
    def forward(self, q, mu, graph, rbf, cutoff_weight):
        filters = self.filter_net(rbf) * cutoff_weight
        messages = graph.senders(self.message_net(self.norm(q))) * graph.edges(filters)
        dq, weight_direction, weight_mu = messages.chunk(3, -1)
        dmu = graph.sum_along(weight_direction) + graph.sum(weight_mu[:, None] * graph.senders(mu)) / math.sqrt(3)
        dq, dmu = graph.sum(dq) / graph.degree, dmu / graph.degree[:, None] / math.sqrt(F)
        return (q + dq) / math.sqrt(2), mu + dmu


class FairchemMixing(Mixing):
    def forward(self, q, mu):
        mu_v, mu_w = self.vector_mix(mu).chunk(2, -1)
        factors = self.mixing_net(torch.cat([q, safe_norm(mu_v, -2, eps=1e-8)], -1))
        dq, dmu_scale, dqmu = factors.chunk(3, -1)
        dq = dq + dqmu * (mu_v * mu_w).sum(-2) / math.sqrt(F)
        return q + dq / math.sqrt(2), mu + dmu_scale[:, None] * mu_w


def painn_fairchem():
    "PaiNN with the constants of fairchem's: a LayerNorm before the message network, factors that keep the variance."
    model, run = painn()
    for layer in model.backbone.layers.values():
        layer.inter.__class__, layer.mix.__class__ = FairchemInteraction, FairchemMixing
        layer.inter.norm = nn.LayerNorm(F)
        layer.inter.message_net[1] = layer.mix.mixing_net[1] = ScaledSiLU()
    return model, run


def schnetpack_painn():
    features, (j, i) = Features(), EDGES
    torch.set_default_dtype(torch.float32)  # SchNetPack knows no other while it builds
    parts = spk.nn.GaussianRBF(R, CUTOFF), spk.nn.CosineCutoff(CUTOFF)
    model = spk.representation.PaiNN(F, LAYERS, *parts, nuclear_embedding=features).double()
    torch.set_default_dtype(torch.float64)
    given = {properties.Z: Z, properties.Rij: POS[j] - POS[i], properties.idx_i: i, properties.idx_j: j}
    return with_features(model, features, lambda: model(dict(given)))


def schnet():
    index, features = EDGES, Features()
    distance = (POS[index[0]] - POS[index[1]]).norm(dim=-1)
    model = SchNet(F, F, LAYERS, R, CUTOFF, interaction_graph=lambda pos, batch: (index, distance))
    model.embedding = features
    return with_features(model, features, lambda: model(Z, POS, BATCH))


def visnet():
    model, features = ViSNet(num_layers=LAYERS, hidden_channels=F, num_rbf=R, cutoff=CUTOFF), Features()
    model.representation_model.embedding = features
    return with_features(model, features, lambda: model(Z, POS, BATCH))


def egnn():
    model, features = EGNN_Network(depth=LAYERS, dim=F), Features()
    return with_features(model, features, lambda: model(features()[None], POS[None]))


def gotennet():
    model, features = GotenNet(dim=F, depth=LAYERS, max_degree=2, accept_embed=True), Features()
    return with_features(model, features, lambda: model(features()[None], POS[None]))


def mace():
    model, features = mace_model(LAYERS), Features(8)
    model.node_embedding = features
    given = mace_input(POS, BATCH, EDGES, torch.zeros_like(Z))
    return with_features(model, features, lambda: model(given, compute_force=False))


NETWORKS = {
    "PaiNN, R0": painn,
    "PaiNN, R2": lambda: painn("R2"),
    "PaiNN, constants of fairchem": painn_fairchem,
    "PaiNN (SchNetPack)": schnetpack_painn,
    "SchNet (PyG)": schnet,
    "ViSNet (PyG)": visnet,
    "EGNN (egnn-pytorch)": egnn,
    "GotenNet (gotennet-pytorch)": gotennet,
    "MACE (mace-torch)": mace,
}
LAYER = re.compile(r"(?:layers\.L?|interactions\.|mixing\.|products\.)(\d+)(?:\.\d+)?$")  # not what is inside


@torch.no_grad()
def largest(model, run, speed):
    "The largest activation that each layer hands on; NaN counts as infinite."
    top = [0.0] * LAYERS
    for path, _, out in outputs(model, lambda: run(scale_speed(VEL, speed))):
        for x in tensors(out) if (found := LAYER.search(path)) else ():
            k, size = int(found[1]), x.abs().max().item()
            top[k] = max(top[k], size if size == size else math.inf)
    return top


def threshold(model, run):
    "The lowest speed from 0.1 on at which an activation is blown, to one percent; None where there is none."
    def blown(exponent): return not max(largest(model, run, 10**exponent)) < BLOWN
    high = next((e for e in range(-1, 13) if blown(e)), None)
    if high is None: return None
    low = max(high - 1, -1)
    while high - low > 0.004:
        middle = (low + high) / 2
        low, high = (low, middle) if blown(middle) else (middle, high)
    return 10**high


def measured(name):
    found = []
    for seed in tqdm(range(SEEDS), desc=name):
        torch.manual_seed(seed)
        model, run = NETWORKS[name]()
        found.append(threshold(model, run))
        if seed == 0: tops = [largest(model, run, 10**e) for e in EXPONENTS]
    logs = [[math.log10(x) if 0 < x < math.inf else None for x in top] for top in tops]
    return {"network": name, "thresholds": found, "log10_largest": logs}


if __name__ == "__main__":
    rows = [measured(name) for name in NETWORKS]
    for row in rows: print(row["network"], row["thresholds"])
    write("zoo_thresholds", blown=BLOWN, layers=LAYERS, log10_speed=EXPONENTS.tolist(), rows=rows)
