"""Can a failure be foreseen? Runs of the original log are trained once more; before every eighth step the network of
that moment is asked how much faster the fastest batch ahead might be. `python benchmarks/warning.py 16` does sixteen
seeds of each recipe, two minutes each; those that are done are kept. nbs/25_warning.ipynb shows what came out.
"""

import copy
import json
import sys
import tempfile
from pathlib import Path

from common import RESULTS, machine
from tqdm.auto import tqdm

from painn_nb.data import painn_nbody
from painn_nb.growth import headroom
from painn_nb.recipes import build_model, resolve
from painn_nb.records import to_json, write_atomic
from painn_nb.runs import new_run
from painn_nb.trainer import trainer_nbody

EVERY = 8  # steps
FILE = RESULTS / "warning.json"


def speed(batch): return batch.vel.norm(dim=-1).amax().item()


def ahead(config):
    "Of each step the fastest batch from then on."
    stream = painn_nbody(config.batch_size, config.seed, system=config.world)
    batches, fastest = [next(stream) for _ in range(config.epochs)], []
    for batch in reversed(batches): fastest.append(max([batch, *fastest[-1:]], key=speed))
    return fastest[::-1]


def probed(recipe, seed):
    "What the probes say before every eighth step, until the run ends."
    config = resolve(recipe, seed=seed, device="cpu")
    model, fastest, found = build_model(config), ahead(config), []
    steps, last = iter(range(config.epochs)), [None]

    def before(_, inputs):
        if inputs[2] is last[0]: return  # a step that failed is repeated
        last[0], step = inputs[2], next(steps)
        if step % EVERY: return
        now, batch = copy.deepcopy(model), fastest[step].like(model)
        now._forward_pre_hooks.clear()
        factor = headroom(now, *batch.inputs, scaled=[2], most=16.0)
        found.append({"step": step, "speed_ahead": speed(batch), "headroom": factor})

    model.register_forward_pre_hook(before)
    with tempfile.TemporaryDirectory() as folder: trainer_nbody(model, new_run(Path(folder), "probed"), config)
    return found


if __name__ == "__main__":
    rows = json.loads(FILE.read_text())["rows"] if FILE.exists() else []
    known = {(row["run"], row["seed"]) for row in rows}
    jobs = [(recipe, seed) for seed in range(int(sys.argv[1])) for recipe in ("R0", "R1", "R2")]
    for recipe, seed in tqdm([job for job in jobs if job not in known]):
        rows.append({"run": recipe, "seed": seed, "probes": probed(recipe, seed)})
        write_atomic(FILE, to_json({"machine": machine(), "rows": rows}, indent=1) + "\n")
