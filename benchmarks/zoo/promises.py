"""What is promised of networks of others, tried on each: nothing read depends on how the world is turned, a watched
training is the same bit for bit, the stabilizers of R2 and R3 keep the symmetry and can be taken off again, and with
them SchNetPack's PaiNN computes what ours does. `make zoo` runs this.
"""

import sys
import warnings
from pathlib import Path

import networks
import pandas as pd
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
from common import write  # noqa: E402

from painn_nb.model import PaiNN  # noqa: E402
from painn_nb.recipes import resolve  # noqa: E402
from painn_nb.stabilizer import attached, detach, stabilize  # noqa: E402
from painn_nb.watch import watch  # noqa: E402

ATOMISTIC = ["PaiNN (SchNetPack)", "PaiNN with forces (SchNetPack)", "SchNet (SchNetPack)", "SchNet (PyG)",
             "ViSNet with forces (PyG)", "EGNN (egnn-pytorch)", "GotenNet (gotennet-pytorch)",
             "MACE with forces (mace-torch)", "gate points (e3nn)"]
KNOWN = [name for name in ATOMISTIC if name.startswith(("PaiNN", "ViSNet", "MACE"))]  # of `PLACES`
upright = networks.molecules


def built(name, turn=None):
    "A network in float64 and its loss on molecules that are turned."
    def molecules(seed=0):
        z, pos, batch, edges = upright(seed)
        pos = pos.double()
        return z, pos if turn is None else pos @ turn.T, batch, edges
    networks.molecules = molecules
    torch.set_default_dtype(torch.float32 if "SchNetPack" in name else torch.float64)  # SchNetPack builds in no other
    model, loss = networks.build(name)
    torch.set_default_dtype(torch.float64)
    return model.double(), loss


def rotation():
    turn, _ = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64))
    return turn * turn.det()


def readings(name, turn):
    model, loss = built(name, turn)
    with watch(model) as w: loss()
    return w.read(0)


def depends_on_turn(name):
    "How many numbers are read, and the keys of those that change with a rotation."
    one, other = readings(name, None), readings(name, rotation())
    return len(one), [key for key in one if abs(one[key] - other[key]) > 1e-6 * (abs(one[key]) + 1e-9)]


def trained(name, watched):
    model, loss = built(name)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    def steps():
        for step in range(3):
            loss().backward()
            optimizer.step()
            optimizer.zero_grad()
            yield step
    if not watched: list(steps())
    else:
        with watch(model) as w:
            for step in steps(): w.capture(step)
    return [*model.state_dict().values(), torch.get_rng_state()]


def stabilized(name, recipe):
    "Whether a recipe acts, keeps the symmetry of the loss and the keys of the weights, and leaves no trace."
    found = []
    for turn in (None, rotation()):
        model, loss = built(name, turn)
        before, keys = loss(), list(model.state_dict())
        stabilize(model, resolve(recipe))
        with watch(model) as w: found.append(loss().item())
        record, sites = w.read(0), list(attached(model))
        kept = keys == list(model.state_dict())
        detach(model)
        gone = torch.equal(loss(), before) and not attached(model)
    held = sum(r.kind == "held" for r in record.readings)
    same = abs(found[0] - found[1]) <= 1e-8 * abs(found[0])
    return {"network": name, "recipe": recipe, "places": len(sites), "with a limit": held, "symmetric": same,
            "keys kept": kept, "taken off": gone}


@torch.no_grad()
def difference(recipe):
    "The largest between what SchNetPack's PaiNN and ours compute with the same weights, both with this recipe."
    theirs, _ = built("PaiNN (SchNetPack)")
    ours = PaiNN.from_schnetpack(theirs.state_dict(), networks.CUTOFF)
    for model in (theirs, ours): stabilize(model, resolve(recipe))
    z, pos, _, (sender, receiver) = networks.molecules()
    out = theirs(networks.schnetpack_input())
    same = ours.representation(z, pos, edge_index=torch.stack([sender, receiver]))
    both = zip((out["scalar_representation"], out["vector_representation"]), same)
    return max((a - b).abs().max().item() for a, b in both)


def examined(name):
    numbers, turned = depends_on_turn(name)
    alone, again, watched = (trained(name, how) for how in (False, False, True))
    same = all(map(torch.equal, alone, watched)) if all(map(torch.equal, alone, again)) else "differs from itself"
    return {"network": name, "numbers": numbers, "change with a turn": len(turned), "trained bit for bit": same}, turned


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    rows, turned = zip(*map(examined, ATOMISTIC))
    helped = [stabilized(name, recipe) for name in KNOWN for recipe in ("R2", "R3")]
    differences = {recipe: difference(recipe) for recipe in ("R0", "R1", "R3")}  # R2 has places that SchNetPack lacks
    for table in (rows, helped): print(pd.DataFrame(table).to_string(index=False))
    print("SchNetPack's PaiNN and ours differ by", differences)
    write("zoo_promises", rows=rows, turned=dict(zip(ATOMISTIC, turned)), stabilized=helped, differences=differences)
