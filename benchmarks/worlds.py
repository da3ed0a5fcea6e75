"""Which worlds of the charged benchmark hold the error? `python benchmarks/worlds.py FOLDER` asks each trained network
of a folder, as `make reproduce STUDY=benchmark FRESH=1` leaves them in runs/fresh, for its error in each test world;
nbs/28_published.ipynb shows what came out.
"""

import sys

import pandas as pd
import torch
from common import RESULTS
from tqdm.auto import tqdm

from painn_nb.runs import runs_in
from painn_nb.tasks import TASKS

SETTINGS = ("network", "seed", "lr_peak", "edges", "flip_charges", "features", "n_rbf")


@torch.no_grad()
def test_errors(model):
    "Mean squared error of the displacement in each of the 2000 test worlds."
    batches = [batch.like(model) for batch in TASKS["egnn"].held_out("test")]
    return torch.cat([(model(*b.inputs)[0] - b.pos_dt).square().mean((1, 2)) for b in batches])


if __name__ == "__main__":
    asked = [run for run in runs_in(sys.argv[1]) if run.ended and run.config.task == "egnn"]
    parts = []
    for run in tqdm(asked, desc="worlds", unit="run"):
        about = {"run": run.about["run"], **{name: getattr(run.config, name) for name in SETTINGS}}
        parts.append(pd.DataFrame({"error": test_errors(run.model).float().numpy()}).assign(**about))
    pd.concat(parts).to_parquet(RESULTS / "worlds.parquet", index=False)
