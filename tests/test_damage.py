"""Files that were cut, garbled, shuffled or doubled: they are read, or a sentence says what is wrong."""

import json
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from conftest import TINY
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from painn_nb.ablation import new_experiment, resume_experiment, run_experiment
from painn_nb.cli import main
from painn_nb.comparison import compare
from painn_nb.grids import find_grid, read_grid
from painn_nb.plots import plot_heatmap, plot_loss
from painn_nb.recipes import build_model, resolve
from painn_nb.runs import Run, append_log, pack, packed, runs
from painn_nb.sweeps import reproduce, sweep
from painn_nb.trainer import restore
from painn_nb.widgets import RunBrowser

ROOT = Path(__file__).parents[1]
GOOD = min((ROOT / "runs" / "painn").glob("*__R2_full"))
FOLDER = tempfile.TemporaryDirectory()  # is gone when Python ends
bad = Path(FOLDER.name)


def written(name, text):
    (bad / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(bad / name)


def toml(text): return resolve(written("r.toml", text))


def grid(text): return find_grid(written("g.toml", text))


def run_with(name, text):
    "A committed run, of which one file holds this."
    path = bad / "painn" / "2026-01-01_00-00-00__x"
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(GOOD, path)
    (path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    return Run(path)


def folder(name):
    (bad / name).mkdir(exist_ok=True)
    return bad / name


def packed_with(text):
    for name in ("runs", "captures", "metrics"): written(f"{name}.parquet", text)
    return packed(bad)


CASES = [
    (lambda: toml("a = "), "/r.toml is no TOML file: Invalid value (at end of document)."),
    (lambda: toml("purpose = 'x'"), '/r.toml has no base; a recipe is a base, a purpose and what differs.'),
    (lambda: toml("base = 'R9'\npurpose='x'"),
     "/r.toml: run is 'R9'; the recipes are R0, R1, R2, R3, or give the path of a .tom"),
    (lambda: toml("base = 3\npurpose='x'"), '/r.toml: base is 3; expected text in quotes.'),
    (lambda: toml("base='R2'\npurpose='x'\n[settings]\nclip_mu=3"),
     "/r.toml: settings is no setting. The settings are prenorm_q, prenorm_mu, filter_"),
    (lambda: toml("base='R2'\npurpose='x'\n[settings]\nclip_mu_norm='many'"),
     "/r.toml: settings is no setting. The settings are prenorm_q, prenorm_mu, filter_"),
    (lambda: toml("base='R2'\npurpose='x'\nfoo=1"),
     "/r.toml: foo is no setting. The settings are prenorm_q, prenorm_mu, filter_gain,"),
    (lambda: toml("base='R2'\npurpose='x'\nsettings=[1]"),
     "/r.toml: settings is no setting. The settings are prenorm_q, prenorm_mu, filter_"),
    (lambda: toml(f"base='{bad}/r.toml'\npurpose='x'"), '/r.toml is built on itself; give another base, as R2.'),
    (lambda: toml(b"\xff\xfe\x00"), "/r.toml is no TOML file: 'utf-8' codec can't decode byte 0xff in position 0: inv"),
    (lambda: resolve(str(folder("dir.toml"))), "/dir.toml', which cannot be read: Is a directory."),
    (lambda: grid("runs = ["), "/g.toml is no TOML file: Invalid value (at end of document)."),
    (lambda: grid("seeds = 2"), '/g.toml has no runs; name the recipes, as runs = ["R0", "R2"].'),
    (lambda: grid("runs = 'R2'"), '/g.toml: runs is \'R2\'; expected a list, as ["R0", "R2"].'),
    (lambda: grid("runs=['R2']\nseeds = 0"), '/g.toml: seeds is 0; it must be a whole number from 1.'),
    (lambda: grid("runs=['R2']\nseeds = 'a'"), "/g.toml: seeds is 'a'; expected a number, as 4."),
    (lambda: grid("runs=['R2']\nfoo=1"),
     "/g.toml: foo is nothing a grid has; a grid file has runs, seeds, settings, vary."),
    (lambda: grid("runs=['R2']\n[vary]\nlr_base=3"), "/g.toml: lr_base is 3 in [vary]; expected a list, as [20, 45]."),
    (lambda: grid("runs=['R2']\n[vary]\nlr=[3]"),
     "/g.toml: lr is no setting. The settings are prenorm_q, prenorm_mu, filter_gain, "),
    (lambda: grid("runs=['R2']\n[settings]\nlr_base=3\n[vary]\nlr_base=[3]"),
     "/g.toml: lr_base is in [settings] and in [vary]; leave it out of one."),
    (lambda: grid("runs=['R2']\n[settings]\nseed=3"),
     "/g.toml: seed is in a table; say how many above them, as seeds = 4."),
    (lambda: grid("runs=['R2']\n[vary]\nlr_base=[]"),
     "/g.toml: lr_base is [] in [vary]; expected a list, as [20, 45]."),
    (lambda: grid("runs=['R9']"), "/g.toml: run is 'R9'; the recipes are R0, R1, R2, R3, or give the path of a .tom"),
    (lambda: grid("runs=['R2']\n[settings]\nlr_base='x'"), "/g.toml: lr_base is 'x'; it must be a valid number."),
    (lambda: read_grid("zz.toml"), "grid is 'zz.toml', which cannot be read: No such file or directory."),
    (lambda: run_with("config.json", "").about, "/config.json' is damaged: it holds '', and no JSON "),
    (lambda: run_with("config.json", "[1]").about, "/config.json' is damaged: it holds '[1]', and no JS"),
    (lambda: run_with("config.json", '{"run": "R2", "fea').config,
     '/config.json\' is damaged: it holds \'{"run": "R2", "'),
    (lambda: run_with("config.json", '{"run":"R2", "new_setting":3}').config,
     "/config.json' is newer: it has new_setting, which p"),
    (lambda: run_with("config.json", '{"run":"R2", "features":"many"}').config,
     "config.json': features is 'many'; it must be a valid integer."),
    (lambda: run_with("summary.json", '{"out').outcome, '/summary.json\' is damaged: it holds \'{"out\', and no'),
    (lambda: run_with("summary.json", '[]').outcome, "/summary.json' is damaged: it holds '[]', and no JS"),
    (lambda: run_with("summary.json", '{}').outcome, "/summary.json' is damaged: it has no outcome; delet"),
    (lambda: run_with("layer_stats.jsonl", '{"step": 0}\n{"st\n{"step": 1}\n').stats,
     "/layer_stats.jsonl is not JSON (unexpected control "),
    (lambda: run_with("layer_stats.jsonl", '{"a": 0}\n').stats, "/layer_stats.jsonl': a capture has a step, and this"),
    (lambda: run_with("layer_stats.jsonl", '{"step": 0, "x": 1}\n').stats,
     "/layer_stats.jsonl': 'x' is not the key of a readin"),
    (lambda: run_with("layer_stats.jsonl", '{"step": 0, "debug/q_abs_max": "x"}\n').stats,
     "/layer_stats.jsonl': debug/q_abs_max is 'x'; expect"),
    (lambda: run_with("layer_stats.jsonl", b"\x00\xff\n").stats,
     "/layer_stats.jsonl is not JSON (str is not valid UT"),
    (lambda: run_with("metrics.jsonl", '{"epoch": "a"}\n').metrics,
     "/metrics.jsonl' is damaged: could not convert strin"),
    (lambda: run_with("metrics.jsonl", '{"x": 1}\n').metrics, "/metrics.jsonl' is damaged: Cannot convert non-fini"),
    (lambda: run_with("metrics.jsonl", '[1]\n').metrics, "/metrics.jsonl is no JSON object: b'[1]\\n'; restore"),
    (lambda: Run(GOOD).model, "has no model.pt; it is kept when a run ends, and"),
    (lambda: run_with("model.pt", "x").model, "/model.pt' does not hold weights of this run; resto"),
    (lambda: packed_with("x"), "are damaged (Could not open Parquet"),
]


@pytest.mark.parametrize("case", range(len(CASES)))
def test_a_damaged_file_is_told_in_a_sentence(case):
    call, sentence = CASES[case]
    with pytest.raises(ValueError) as told: call()
    assert sentence in str(told.value)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "A folder with a run that was stopped, and so has a file of every kind."
    folder = tmp_path_factory.mktemp("whole")
    run = new_experiment("R2", folder, checkpoint_seconds=0, **TINY)
    (run.path / "stop").touch()
    resume_experiment(run)
    pack(folder)
    return folder


def cut(data, draw): return data[: draw(st.integers(0, len(data)))]


def garbled(data, draw):
    data = bytearray(data)
    for _ in range(draw(st.integers(1, 8))): data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data)


def shuffled(data, draw):
    lines = data.splitlines(keepends=True)
    return b"".join(draw(st.permutations(lines)))


def doubled(data, draw): return data + data[draw(st.integers(0, len(data))) :]


def restored(run):
    model = build_model(run.config)
    return restore(run, {"model": model})


def figure(run):
    plot_loss(run)
    return plot_heatmap(run)


def of_packed(run): return compare(packed(run.path.parents[1]))


READERS = {
    "config.json": [lambda run: run.about, lambda run: run.config, lambda run: runs(run.path.parents[1])],
    "summary.json": [lambda run: run.summary, lambda run: run.outcome, lambda run: runs(run.path.parents[1])],
    "layer_stats.jsonl": [lambda run: run.captures, lambda run: run.stats, lambda run: run.reported, figure],
    "metrics.jsonl": [lambda run: run.metrics, figure],
    "report.md": [lambda run: run.report, append_log],
    "model.pt": [lambda run: run.model],
    "checkpoint.pt": [restored],
    **{f"../../{name}.parquet": [of_packed] for name in ("runs", "captures", "metrics")},
    "../../ABLATION.md": [append_log],
}


def contents(folder):
    "What is in each file below it; locks are empty."
    files = [path for path in Path(folder).rglob("*") if path.is_file() and path.suffix != ".lock"]
    return {path.name: path.read_bytes() for path in files}


@pytest.mark.parametrize("name", READERS)
def test_whatever_happens_to_a_file(name, whole):
    "It is read, or a ValueError says what is wrong; files that are only read stay as they are."
    @settings(database=None, deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
    @given(st.sampled_from([cut, garbled, shuffled, doubled]), st.data())
    def readable_or_told(damage, data):
        with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shutil.copytree(whole, folder, dirs_exist_ok=True)
            run = Run(next(Path(folder).glob("painn/*")))
            file = run.path / name
            file.write_bytes(damage(file.read_bytes(), data.draw))
            before = contents(folder)
            for read in READERS[name]:
                try: read(run)
                except ValueError as e: assert len(str(e)) > 20
            changed = {file for file, content in contents(folder).items() if before.get(file) != content}
            assert changed <= ({"ABLATION.md"} if append_log in READERS[name] else set())
    readable_or_told()


@pytest.mark.parametrize("name", ["runs", "captures", "metrics"])
def test_packing_again_over_a_damaged_file_loses_nothing(name, whole, tmp_path):
    shutil.copytree(whole, tmp_path, dirs_exist_ok=True)
    (tmp_path / f"{name}.parquet").write_bytes(b"PAR1")
    before = contents(tmp_path)
    for again in (pack, lambda folder: reproduce([], folder)):
        with pytest.raises(ValueError, match="restore runs.parquet, captures.parquet, metrics.parquet"): again(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", ["layer_stats.jsonl", "metrics.jsonl"])
def test_a_file_that_was_cut_has_the_records_before_the_cut(name, whole):
    original = Run(next(whole.glob("painn/*")))
    of_original = {"layer_stats.jsonl": original.records, "metrics.jsonl": original.epochs}[name]
    lines = of_original.path.read_bytes().splitlines(keepends=True)

    @settings(database=None, deadline=None, max_examples=60)
    @given(st.integers(0, sum(map(len, lines))))
    def cut_at(n):
        path = bad / name
        path.write_bytes(of_original.path.read_bytes()[:n])
        ends = [sum(map(len, lines[: k + 1])) for k in range(len(lines))]
        complete = sum(n >= end - 1 for end in ends)  # the end of a line may be missing
        found = list(type(of_original)(path))
        assert found == list(of_original)[:complete]
    cut_at()


def emptied(run): (run / "config.json").write_text("")
def halved(run): (run / "config.json").write_text((run / "config.json").read_text()[:99])
def bare(run): (run / "config.json").write_text('{"run": "R2"}')
def of_a_list(run): (run / "config.json").write_text("[1, 2]")
def with_a_foreign_setting(run): put(run, "config.json", clip_everything=3)
def of_a_newer_schema(run): put(run, "config.json", schema=99, lattice="cubic")
def of_bad_values(run): put(run, "config.json", features="many", clip_mu_norm=-1)
def of_a_foreign_recipe(run): put(run, "config.json", run="R9")
def without_outcome(run): (run / "summary.json").write_text("{}")
def with_half_a_summary(run): (run / "summary.json").write_text('{"outcome": "compl')
def with_foreign_errors(run): put(run, "summary.json", held_out={"energy": 1.0}, early_failure="yes")
def without_report(run): (run / "report.md").unlink()
def of_broken_captures(run): (run / "layer_stats.jsonl").write_text('{"x": 1}\n')
def of_broken_metrics(run): (run / "metrics.jsonl").write_bytes(b"\xff\xfe\n")
def a_folder_for_a_file(run): (run / "config.json").unlink(), (run / "config.json").mkdir()
def foreign(run): shutil.rmtree(run), run.mkdir(), (run / "notes.txt").write_text("mine")
def a_file(run): shutil.rmtree(run), run.write_text("mine")


def of_a_step_beyond_all(run): add(run, '{"step": 18446744073709551615}')
def of_a_layer_beyond_all(run): add(run, '{"step": 3, "debug/L40000.mix.q_abs_max": 1}')
def of_deep_brackets(run): (run / "config.json").write_text("[" * 100_000)
def of_a_huge_error(run): put(run, "summary.json", held_out={"pos_dt": 10**400, "vel": 1.0})
def of_odd_kinds(run): put(run, "config.json", purpose=3, git_commit=["x"], schema=10**30)
def of_an_odd_version(run): put(run, "config.json", versions={"torch": 3}, lattice={"a": 1})
def of_half_a_letter(run): put(run, "config.json", purpose="\ud800")
def of_an_odd_outcome(run): put(run, "summary.json", outcome=["completed"])
def of_a_report_in_bytes(run): (run / "report.md").write_bytes(b"\xff\xfe")
def of_doubled_captures(run): add(run, (run / "layer_stats.jsonl").read_text().rstrip("\n"))


def add(run, line):
    with (run / "layer_stats.jsonl").open("a") as file: file.write(line + "\n")


def put(path, name, /, **values):
    text = json.loads((path / name).read_text()) | values
    (path / name).write_text(json.dumps(text))


NEIGHBOURS = [emptied, halved, bare, of_a_list, with_a_foreign_setting, of_a_newer_schema, of_bad_values,
              of_a_foreign_recipe, without_outcome, with_half_a_summary, with_foreign_errors, without_report,
              of_broken_captures, of_broken_metrics, a_folder_for_a_file, foreign, a_file,
              of_a_step_beyond_all, of_a_layer_beyond_all, of_deep_brackets, of_a_huge_error, of_odd_kinds,
              of_an_odd_version, of_half_a_letter, of_an_odd_outcome, of_a_report_in_bytes, of_doubled_captures]


@pytest.fixture(scope="module")
def healthy(tmp_path_factory):
    "Two runs that have ended, one of R0 and one of R2."
    folder = tmp_path_factory.mktemp("healthy")
    for run in ("R0", "R2"): run_experiment(run, folder, seed=7, **TINY)
    return folder


@pytest.mark.parametrize("damage", NEIGHBOURS)
def test_a_damaged_neighbour_takes_no_other_along(damage, healthy, tmp_path, monkeypatch):
    "In every command, in the table of runs, in comparisons, in packs, in sweeps, in the browser and in the run log."
    monkeypatch.setattr("painn_nb.widgets.project_root", lambda: tmp_path)
    folder = tmp_path / "runs"
    shutil.copytree(healthy, folder)
    good = sorted((folder / "painn").iterdir())
    named = folder / "painn" / "2026-01-01_00-00-00__<odd> name"
    shutil.copytree(good[1], named)
    damage(named)
    def command(*args):
        done = CliRunner().invoke(main, [*map(str, args)])
        assert done.exit_code == 0, (args, done.output, done.exception)
        return done.output
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        table = runs(folder)
        assert {run.name for run in good} <= {path.name for path in table.run_dir}
        assert {"R0", "R2"} <= set(compare(folder).run)
        pack(folder)
        assert {run.name for run in good} <= set(packed(folder).runs.run_id)
        assert {"R0", "R2"} <= set(compare(packed(folder)).run)
        assert {run.name for run in good} <= {run.path.name for run in RunBrowser().runs.options.values()}
    out = command("compare", folder)
    assert "R0" in out and "R2" in out
    (folder / "ABLATION.md").unlink()
    command("run", "R1", "--runs-dir", folder, *(f"--{k.replace('_', '-')}={v}" for k, v in TINY.items()))
    log = command("log", folder)
    assert all(name in log for name in ("## R0_diag", "## R1_resid0_5", "## R2_full"))
    command("explain", "R0_diag", "--runs-dir", folder)
    again = sweep([dict(run=run, seed=7, **TINY) for run in ("R0", "R2")], folder, workers=1)
    assert {run.path.name for run in again} == {run.name for run in good}


def test_a_run_whose_steps_are_gone_does_not_go_on(whole, tmp_path):
    damaged = [("metrics.jsonl", ""), ("metrics.jsonl", '{"a": 1}\n'), ("layer_stats.jsonl", '{"step": "a"}\n')]
    for name, text in damaged:
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        shutil.copytree(whole, folder)
        run = Run(next(folder.glob("painn/*")))
        (run.path / name).write_text(text)
        with pytest.raises(ValueError, match="has not the steps up to|has no number of a step"): resume_experiment(run)
        assert (run.path / "checkpoint.pt").exists()


def test_what_a_kill_after_the_last_write_leaves_is_removed(healthy, tmp_path):
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    run = Run(next(tmp_path.glob("painn/*")))
    for name in ("stop", "checkpoint.pt"): (run.path / name).touch()
    resume_experiment(run)
    assert not (run.path / "checkpoint.pt").exists() and not (run.path / "stop").exists()


def test_a_log_that_is_no_text_is_told(healthy, tmp_path):
    shutil.copytree(healthy, tmp_path, dirs_exist_ok=True)
    (tmp_path / "ABLATION.md").write_bytes(b"\xff")
    with pytest.raises(ValueError, match="ABLATION.md is no text .* put it elsewhere"):
        append_log(Run(next(tmp_path.glob("painn/*"))))
