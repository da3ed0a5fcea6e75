"""The confirmed recipes of nbs/22_recipe.ipynb, on worlds that no choice of a recipe or a rate has looked at.

The search and the fresh seeds share their held-out worlds. Here the same trainings are measured on the worlds for
validation, which these runs never use. `python benchmarks/fresh_worlds.py FOLDER` trains what the folder of runs lacks.
"""

import sys

from common import write
from tqdm.auto import tqdm

from painn_nb.data import held_out
from painn_nb.studies import confirmation
from painn_nb.sweeps import sweep
from painn_nb.trainer import evaluate

WORLDS = 1024

if __name__ == "__main__":
    worlds, rows = {"searched": held_out("test"), "fresh": held_out("val", n_traj=WORLDS)}, []
    for run in tqdm(sweep(confirmation(), sys.argv[1]), desc="fresh worlds", unit="run"):
        errors = {name: evaluate(run.model, batches) for name, batches in worlds.items()}
        rows.append({"run": run.about["run"], "seed": run.config.seed, "peak": run.config.lr_peak, **errors})
    write("fresh_worlds", worlds=WORLDS, rows=rows)
