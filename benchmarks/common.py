"What all benchmarks share: variants that take turns, so that whatever else the machine does falls on all of them."

import json
import os
import platform
import statistics
from pathlib import Path

import torch
from tqdm.auto import tqdm

RESULTS = Path(__file__).parent / "results"
INSTRUCTIONS = {"avx2", "avx512f", "avx512_bf16", "amx_bf16"}  # those that decide how fast products are


def machine():
    info = Path("/proc/cpuinfo").read_text().splitlines() if os.path.exists("/proc/cpuinfo") else []
    cpu = next((line.split(":")[1].strip() for line in info if line.startswith("model name")), platform.processor())
    flags = next((set(line.split(":")[1].split()) for line in info if line.startswith("flags")), set())
    about = {
        "cpu": cpu, "instructions": " ".join(sorted(flags & INSTRUCTIONS)),
        "cores": os.cpu_count(), "threads": torch.get_num_threads(),
        "torch": torch.__version__, "python": platform.python_version(),
    }
    return about | ({"gpu": torch.cuda.get_device_name()} if torch.cuda.is_available() else {})


def fully_connected(worlds, n):
    "Edge index (2, worlds·n·(n-1)) of worlds laid end to end."
    world = torch.tensor([[j, i] for i in range(n) for j in range(n) if i != j]).T
    return (n * torch.arange(worlds)[:, None] + world[:, None]).flatten(1)


def take_turns(variants, rounds, warmup=2, desc=""):
    "Call each variant, which returns its seconds, once per round: name -> seconds of all rounds."
    for _ in range(warmup):
        for step in variants.values(): step()
    seconds = {name: [] for name in variants}
    for _ in tqdm(range(rounds), desc=desc):
        for name, step in variants.items(): seconds[name].append(step())
    return seconds


def summarize(seconds, base):
    "Median and quartiles in milliseconds, and how many times faster than `base` in the same round."
    rows = []
    for name, values in seconds.items():
        low, middle, high = (1e3 * q for q in statistics.quantiles(values, n=4))
        faster = statistics.median(b / v for b, v in zip(seconds[base], values))
        rows.append({"variant": name, "ms": middle, "quartiles": [low, high], "times_faster": faster})
    return rows


def added(seconds, base):
    "Of each variant what it adds to `base` in the same round, in percent of its median: the median, and quartiles."
    whole = statistics.median(seconds[base])
    for name, values in seconds.items():
        percent = [100 * (own - other) / whole for own, other in zip(values, seconds[base])]
        low, middle, high = statistics.quantiles(percent, n=4)
        yield name, middle, [low, high]


def write(name, **result):
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps({"machine": machine(), **result}, indent=2) + "\n")
    print(path)
