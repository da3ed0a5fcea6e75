"""From the command to the first training step: what is paid when. `make bench` runs this.


"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import write
from painn_nb.process import can_compile

ROOT = Path(__file__).parents[1]


def seconds(*command):
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, capture_output=True, cwd=ROOT)
    return time.perf_counter() - start


def papermill():
    "Seconds of a whole run of one step, and of that step."
    with tempfile.TemporaryDirectory() as folder:
        settings = ("-p", "runs_dir", folder, "-p", "epochs", "1")
        whole = seconds("-m", "papermill", "nbs/run.ipynb", f"{folder}/out.ipynb", *settings)
        metrics = next(Path(folder).glob("painn/*/metrics.jsonl")).read_text()
    return whole, json.loads(metrics)["seconds"]


COMPILE = """
import json, statistics, time
from painn_nb.data import painn_nbody
from painn_nb.process import compile_layers
from painn_nb.recipes import build_model, resolve
from painn_nb.trainer import forward_backward
model, eager = (build_model(resolve("R2")) for _ in range(2))
batch = next(painn_nbody(128, frames=2)).like(model)
def step(model):
    start = time.perf_counter()
    forward_backward(model, batch)
    return time.perf_counter() - start
start = time.perf_counter()
compile_layers(model)
forward_backward(model, batch)
first = time.perf_counter() - start
eager = [step(eager) for _ in range(12)][2:]
compiled = [step(model) for _ in range(12)][2:]
print(json.dumps([first, 1e3 * statistics.median(eager), 1e3 * statistics.median(compiled)]))
"""


def compilation():
    """Seconds until the first step of a compiled R2 is done, on a machine that has compiled nothing yet and on one that
    has; and milliseconds of each further step, eager and compiled."""
    with tempfile.TemporaryDirectory() as cache:
        env, command = os.environ | {"TORCHINDUCTOR_CACHE_DIR": cache}, [sys.executable, "-c", COMPILE]
        def told():
            return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout)
        (new, *_), (again, *step_ms) = told(), told()
        return [new, again], dict(zip(("eager", "compiled"), step_ms))


if __name__ == "__main__":
    modules = ("torch", "painn_nb", "painn_nb.ablation", "painn_nb.plots")
    imports = {module: statistics.median(seconds("-c", f"import {module}") for _ in range(3)) for module in modules}
    whole, step = papermill()
    compiling, step_ms = compilation() if can_compile() else (None, None)
    for module, s in imports.items(): print(f"import {module}: {s:.1f} s")
    print(f"papermill, one step: {whole:.1f} s, of which the step {step:.1f} s")
    if compiling: print(f"first compiled step: {compiling[0]:.1f} s, {compiling[1]:.1f} s the second time; {step_ms}")
    times = dict(import_seconds=imports, papermill_seconds=whole, first_step_seconds=step)
    write("startup", compile_seconds=compiling, step_ms=step_ms, **times)
