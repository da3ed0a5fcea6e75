"""Walks of CONTRIBUTING: each adds a thing in one place and sees it in files, table, report, figure, panel.

A walk that changes the package does so in a copy of it, by one line, in the notebook and in what was exported from it,
and looks from processes of its own. The notebooks that deal with such things still hold with one more of them."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY

from painn_nb import PaiNN, attach, examine, painn_nbody
from painn_nb.plots import plot_before_after
from painn_nb.readings import stats_table

LOOK = f"""
import os, sys, tempfile
os.environ["PAINN_NB_STATIC"] = "1"
import matplotlib; matplotlib.use("agg")
import matplotlib.pyplot as plt
from painn_nb import *
from painn_nb.plots import *
from painn_nb.recipes import HELP, all_recipes, papermill_command
from painn_nb.widgets import *
tiny = dict(runs_dir=tempfile.mkdtemp(), device="cpu", **{TINY!r})
"""


@pytest.fixture
def walk(root, tmp_path):
    "Change one place of a copy of the package, then run a piece of code on it."

    def take(module, before, line, code, notebooks=()):
        for folder in ("painn_nb", "nbs"): shutil.copytree(root / folder, tmp_path / folder)
        for name in ("pyproject.toml", "settings.ini", "runs", "tests"): (tmp_path / name).symlink_to(root / name)
        path = tmp_path / "painn_nb" / module
        text = path.read_text()
        assert text.count(before) == 1
        path.write_text(text.replace(before, line + before))
        [source] = (tmp_path / "nbs").glob(f"[0-9]*_{path.stem}.ipynb")
        notebook = json.loads(source.read_text())
        for cell in notebook["cells"]:
            text = "".join(cell["source"])
            if "#| export" in text: cell["source"] = text.replace(before, line + before)
        source.write_text(json.dumps(notebook))

        commands = [[sys.executable, "-W", "error::UserWarning:painn_nb", "-c", LOOK + code]]
        tester = Path(sys.executable).with_name("nbdev_test")
        commands += [[tester, "--path", f"nbs/{name}.ipynb", "--n_workers", "0"] for name in notebooks]
        env = os.environ | {"PYTHONPATH": str(tmp_path), "TQDM_DISABLE": "1"}
        for command in commands:
            done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, done.stdout[-2000:] + done.stderr

    return take


class RMSNorm(torch.nn.Module):
    def forward(self, x): return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt()


def test_a_stabilizer_at_a_site():
    torch.manual_seed(0)
    model = PaiNN(features=8, layers=2).double()
    attach(model, "*.mix.q", RMSNorm)
    stats = stats_table([examine(model, *next(painn_nbody(8, frames=5)).inputs)])
    before = stats[stats.stabilizer == "rms_norm"]
    assert before.site.tolist() == ["L0.mix.q", "L1.mix.q"] and set(before.kind) == {"before"}
    assert "rms_norm" in plot_before_after(stats)[0].get_title()


def test_a_remedy(walk):
    walk("stabilizer.py", "    clip_mu_norm: Positive | None = remedy(", """\
    tanh_q_scale: Positive | None = remedy(ScaledTanh, "mix.q", help="scaled tanh on q after mixing")
""", """
run = run_experiment("R0", tanh_q_scale=0.01, **tiny)
assert run.about["tanh_q_scale"] == 0.01 and run.name == "R0_diag_tanh_q_scale_0.01"
stats = run.stats
held = stats[(stats.site == "L1.mix.q") & (stats.kind == "held")]
assert held.stabilizer.tolist()[0] == "scaled_tanh" and held.value.max() > 0
assert stats[(stats.site == "L1.mix.q") & (stats.kind == "max")].value.max() <= 0.01
assert "scaled_tanh of q held" in run.report and "tanh_q_scale=0.01" in run.report
assert any("q" in ax.get_title() for ax in plot_before_after(stats))
assert Remedies(tanh_q_scale=2).bounds() == {"mix.q": 2}
assert HELP["tanh_q_scale"] == "scaled tanh on q after mixing"
panel = ExplosionPanel()
panel.remedies["tanh_q_scale"].value = 1.0
assert panel.settings["tanh_q_scale"] == 1.0 and "-p tanh_q_scale 1" in papermill_command(panel.settings)
assert panel.capture["debug/L0.mix.q_abs_max"] <= 1.0
""")


def test_a_recipe_in_the_package(walk):
    walk("recipes.py", '    "R2": Recipe(', """\
    "R9": Recipe("R9_soft", "a clip of mu alone", dict(clip_mu_norm=3.0)),
""", """
run = run_experiment("R9", **tiny)
assert run.name == "R9_soft" and run.about["purpose"] == "a clip of mu alone" and run.config.clip_mu_norm == 3
assert "## R9_soft" in run.report
log = (run.path.parents[1] / "ABLATION.md").read_text()
assert "- R9 (a clip of mu alone)" in log and "## R9_soft" in log
assert run_lines(runs(run.path.parents[1]))
assert "R9" in [b.description for b in ExplosionPanel().children[0].children]
assert any("R9" in text for text in LiveRun().recipe.options)
""", ["07_recipes", "11_runs", "16_grids", "17_comparison"])


def test_a_recipe_of_ones_own(walk):
    "No place in the package at all."
    walk("recipes.py", "def find_recipe(", "", """
from pathlib import Path
Path("recipes").mkdir()
Path("recipes/gentle.toml").write_text('base = "R1"\\npurpose = "R1, clipped"\\nclip_mu_norm = 8\\n')
run = run_experiment("gentle", **tiny)
assert run.name == "gentle" and run.config.clip_mu_norm == 8 and run.config.residual_scale_mixing == 0.5
assert run_experiment("recipes/gentle.toml", seed=1, **tiny).about["run"] == "gentle"
assert "## gentle" in (run.path.parents[1] / "ABLATION.md").read_text()
table = runs(tiny["runs_dir"])
assert set(table.run) == {"gentle"} and all("gentle" in line for line in run_lines(table))
assert "gentle" in [b.description for b in ExplosionPanel().children[0].children]
assert any("gentle" in text for text in LiveRun().recipe.options)
""")


def test_a_system(walk):
    walk("systems.py", '        System("charged", "electric charges"', """\
        System("slow", "slow gravity", "mass", 0.1, 50, lambda n, seed, frames: gravity(n, seed, frames=frames),
               gravity_energy, {"time": "ps"}),
""", """
run = run_experiment("R2", system="slow", **tiny)
assert run.about["system"] == "slow" and run.name == "R2_full_system_slow"
assert "system=slow" in run.report and set(run.summary["ballistic"]) == {"pos_dt", "vel"}
assert runs(tiny["runs_dir"]).system.tolist() == ["slow"]
slow = SYSTEMS["slow"]
world = slow.simulate(1, 0, 20)
assert plot_energy(world, world, 5, slow, plt.figure().gca()).get_xlabel() == "time (ps)"
assert "slow gravity" in TrajectoryPanel().system.options
""", ["00_systems", "01_data", "07_recipes"])


def test_a_statistic(walk):
    walk("reductions.py", '    Statistic("rms", rms, rms_of_both),', """\
    Statistic("average", lambda a: a.magnitudes.mean(), mean_of_both),
""", """
run = run_experiment("R2", **tiny)
stats = run.stats
average = stats[stats.kind == "average"]
assert "q_average" in set(average.stat) and "debug/L1.mix.q_average" in run.captures[0]
wide = stats[stats.site == "L1.mix.q"].pivot(index="step", columns="kind", values="value")
assert "  - Largest average: " in run.report
assert (wide["average"] <= wide["rms"]).all() and (wide["average"] > 0).all()
assert plot_heatmap(stats, "q_average", plt.figure().gca()).get_title()
with watch(model := PaiNN(features=8, layers=1), "*net*") as w:
    model(*next(painn_nbody(4, frames=3)).like(model).inputs)
    assert {r.kind for r in w.read(0).readings} >= {"max", "average"}
""", ["02_reductions", "03_sites", "09_readings", "13_watch", "17_plots"])
