"""From the command to the first training step: what is paid when. `make bench` runs this."""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write

ROOT = Path(__file__).parents[1]


def seconds(*command):
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start


def papermill():
    "Seconds of a whole run of one step, and of that step."
    with tempfile.TemporaryDirectory() as folder:
        whole = seconds("-m", "papermill", "nbs/run.ipynb", f"{folder}/out.ipynb", "-p", "runs_dir", folder, "-p", "epochs", "1")
        metrics = next(Path(folder).glob("painn/*/metrics.jsonl")).read_text()
    return whole, json.loads(metrics)["seconds"]


if __name__ == "__main__":
    imports = {module: statistics.median(seconds("-c", f"import {module}") for _ in range(3)) for module in ("torch", "painn_nb", "painn_nb.ablation", "painn_nb.plots")}
    whole, step = papermill()
    for module, s in imports.items(): print(f"import {module}: {s:.1f} s")
    print(f"papermill, one step: {whole:.1f} s, of which the step {step:.1f} s")
    write("startup", import_seconds=imports, papermill_seconds=whole, first_step_seconds=step)
