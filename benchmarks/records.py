"""Long runs: reading, tabulating and reporting many captures of R2, in processes of their own. `make bench` runs this.

Row by row is the way that comes to mind: Python's json, a tuple for each reading, a table of tuples.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from common import write
from painn_nb.runs import Run

ROOT = Path(__file__).parents[1]

START = """
import json, resource, sys, time
import pandas as pd
from painn_nb.readings import from_record
from painn_nb.runs import Ended, Run, conclude
run = Run(sys.argv[1])
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
"""
END = "print(json.dumps([time.perf_counter() - start, peak() - before]))"
COLUMNS = ["step", "site", "layer", "block", "stat", "kind", "stabilizer", "value"]
ROW_BY_ROW = """
captures = [from_record(json.loads(line)) for line in open(run.records.path)]
captures = [(c.step, c.readings) for c in captures]
"""
TABLE = f"""
rows = [(step, *(getattr(r, name) for name in {COLUMNS[1:]})) for step, readings in captures for r in readings]
table = pd.DataFrame(rows, columns={COLUMNS}).astype({{"layer": "Int64"}})
"""
VARIANTS = {
    "read": {"row by row": ROW_BY_ROW, "painn_nb": "run.captures"},
    "tabulate": {
        "row by row": ROW_BY_ROW + TABLE,
        "pandas.read_json, not tidy": "pd.read_json(run.records.path, lines=True)",
        "painn_nb": "run.stats",
    },
    "what reports show": {"painn_nb": "run.reported"},
    "conclude": {"painn_nb": "conclude(run, Ended('completed'), 3e38)"},
}


def long_run(folder, captures):
    "A run directory with the captures and epochs of a committed run, again and again."
    short = Run(min((ROOT / "runs" / "painn").glob("*__R2_full")))
    run = Run(Path(folder) / "painn" / short.path.name)
    run.path.mkdir(parents=True)
    (run.path / "config.json").write_text((short.path / "config.json").read_text())
    for name in ("layer_stats.jsonl", "metrics.jsonl"):
        records = list(map(json.loads, (short.path / name).open()))
        with (run.path / name).open("w") as file:
            for step in range(captures):
                record = records[step % len(records)] | {"step": step}
                file.write(json.dumps(record | ({"epoch": step} if "epoch" in record else {})) + "\n")
    return run


def measure(code, run):
    "Seconds, and MiB beyond what imports take."
    command = [sys.executable, "-c", "\n".join([START, code, END]), run]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


if __name__ == "__main__":
    rows = []
    for captures in (20_000, 100_000):
        with tempfile.TemporaryDirectory() as folder:
            run = long_run(folder, captures)
            for what, ways in VARIANTS.items():
                for way, code in ways.items():
                    if captures > 20_000 and way != "painn_nb": continue  # needs more memory than most machines have
                    seconds, mib = measure(code, run)
                    print(f"{captures} captures, {what}, {way}: {seconds:.1f} s, {mib:.0f} MiB")
                    rows.append({"captures": captures, "what": what, "way": way, "seconds": seconds, "mib": mib})
    write("records", rows=rows)
