"""Which worlds of a benchmark hold the error? `python benchmarks/worlds.py FOLDER` asks each trained network of a
folder, as `make reproduce STUDY=benchmark FRESH=1` (or STUDY=segno) leaves them in runs/fresh, for its error in each
test world. nbs/28_published.ipynb and nbs/28_published_gravity.ipynb show what came out.
"""

import sys

import pandas as pd
import torch
from common import RESULTS
from tqdm.auto import tqdm

from painn_nb.runs import runs_in
from painn_nb.tasks import TASKS

SETTINGS = ("task", "network", "seed", "lr_peak", "edges", "flip_charges", "features", "n_rbf")


@torch.no_grad()
def test_errors(model, task):
    "Mean squared error of the displacement in each of the 2000 test worlds."
    batches = [batch.like(model) for batch in TASKS[task].held_out("test")]
    return torch.cat([(model(*b.inputs)[0] - b.pos_dt).square().mean((1, 2)) for b in batches])


if __name__ == "__main__":
    asked = [run for run in runs_in(sys.argv[1]) if run.ended and TASKS[run.config.task].worlds]
    parts = {}
    for run in tqdm(asked, desc="worlds", unit="run"):
        about = {"run": run.about["run"], **{name: getattr(run.config, name) for name in SETTINGS}}
        errors = test_errors(run.model, run.config.task).float().numpy()
        parts.setdefault(run.config.system, []).append(pd.DataFrame({"error": errors}).assign(**about))
    for system, found in parts.items(): pd.concat(found).to_parquet(RESULTS / f"worlds_{system}.parquet", index=False)
