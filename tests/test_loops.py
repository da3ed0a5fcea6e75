"""Real trainings by Lightning, HuggingFace and W&B, watched: same weights, stopped in time, a report in any case."""

import copy
import subprocess
import sys
import time
import warnings

import lightning.pytorch as pl
import pytest
import torch
import transformers
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from painn_nb.loops import LightningWatch, TrainerWatch, Watching, to_wandb
from painn_nb.runs import Run

DATA = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
pytestmark = pytest.mark.filterwarnings("ignore")


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 8), nn.Dropout(0.5), nn.LayerNorm(8), nn.Linear(8, 1))


class Lit(pl.LightningModule):
    def __init__(self, lr, fails_at=None):
        super().__init__()
        self.net, self.lr, self.fails_at = network(), lr, fails_at

    def training_step(self, batch, index):
        if self.global_step == self.fails_at: raise self.error
        return self.net(batch[0]).square().mean()

    def validation_step(self, batch, index): self.net(batch[0] * torch.inf)
    def configure_optimizers(self): return torch.optim.Adam(self.parameters(), self.lr)


def fit(lit, callbacks, **options):
    pl.seed_everything(1, verbose=False)
    data = DataLoader(TensorDataset(DATA), batch_size=4, shuffle=True)
    quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
    trainer = pl.Trainer(accelerator="cpu", callbacks=callbacks, **quiet, **options)
    trainer.fit(lit, data, data)
    return trainer


class Regression(nn.Module):
    def __init__(self, fails_at=None):
        super().__init__()
        self.net, self.fails_at, self.calls = network(), fails_at, 0

    def forward(self, x):
        self.calls += 1
        if self.calls == self.fails_at: raise OverflowError("the loss is nan")
        out = self.net(x if self.training else x * torch.inf)
        return {"loss": out.square().mean(), "out": out}


def train(model, callbacks, folder, lr=1e-2, **options):
    quiet = dict(report_to="none", save_strategy="no", disable_tqdm=True, use_cpu=True, logging_strategy="no")
    options = dict(num_train_epochs=4, per_device_train_batch_size=4, learning_rate=lr) | options
    args = transformers.TrainingArguments(str(folder), **quiet, **options)
    data = [{"x": x} for x in DATA]
    trainer = transformers.Trainer(model, args, train_dataset=data, eval_dataset=data, callbacks=callbacks)
    trainer.train()
    return trainer


def same(a, b): return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values()))


@pytest.mark.parametrize("options", [{}, dict(accumulate_grad_batches=3), dict(gradient_clip_val=0.1)])
def test_lightning_trains_bit_for_bit_as_without(options, tmp_path):
    watched, alone = Lit(1e-2), Lit(1e-2)
    before = copy.deepcopy(alone)
    fit(watched, [LightningWatch(tmp_path / "run", every=2)], max_epochs=3, **options)
    fit(alone, [], max_epochs=3, **options)
    assert same(watched, alone) and not same(alone, before)
    assert Run(tmp_path / "run").outcome == "completed"  # what the validation lost is in no capture
    assert all(capture.step % 2 == 0 for capture in Run(tmp_path / "run").captures)


def test_validation_in_the_middle_of_accumulated_gradients_is_not_read(tmp_path):
    lit = Lit(1e-2)
    fit(lit, [LightningWatch(tmp_path / "run", every=1)], max_epochs=2, accumulate_grad_batches=3, val_check_interval=2)
    run = Run(tmp_path / "run")
    assert (run.outcome, [capture.step for capture in run.captures]) == ("completed", [0, 1, 2, 3])


@pytest.mark.parametrize("stop", [True, False])
def test_lightning_stops_at_the_first_failure(stop, tmp_path):
    lit = Lit(1e-2)
    with torch.no_grad(): lit.net[3].weight.fill_(torch.inf)
    callback = LightningWatch(tmp_path / "run", every=3, stop=stop, which="net.*")
    trainer = fit(lit, [callback], max_epochs=2)
    run = Run(tmp_path / "run")
    assert trainer.global_step == (1 if stop else 12)
    assert (run.failure["site"], run.failure["cause"], run.failure["step"]) == ("net.3", "weight", 0)
    assert callback.watching.failure == run.failure and "net.3" in run.report


@pytest.mark.parametrize("error", [OverflowError("the loss is nan"), KeyboardInterrupt()])
def test_lightning_interrupted_leaves_a_report(error, tmp_path):
    lit = Lit(1e-2, fails_at=4)
    lit.error = error
    with pytest.raises((OverflowError, KeyboardInterrupt, SystemExit)):
        fit(lit, [LightningWatch(tmp_path / "run", every=3)], max_epochs=2)
    run = Run(tmp_path / "run")
    assert run.ended and run.report and [capture.step for capture in run.captures] == [0, 3]


@pytest.mark.parametrize("options", [{}, dict(gradient_accumulation_steps=3)])
def test_huggingface_trains_bit_for_bit_as_without(options, tmp_path):
    watched, alone = Regression(), Regression()
    train(watched, [TrainerWatch(tmp_path / "run", every=2)], tmp_path, eval_strategy="epoch", **options)
    train(alone, [], tmp_path, eval_strategy="epoch", **options)
    assert same(watched, alone) and not same(alone, Regression())
    run = Run(tmp_path / "run")
    assert run.outcome == "completed" and (run.stats.stat == "grad_max").any()
    assert [capture.step for capture in run.captures] == list(range(0, 24 // options.get(
        "gradient_accumulation_steps", 1), 2))


@pytest.mark.parametrize("stop", [True, False])
def test_huggingface_stops_at_the_first_failure(stop, tmp_path):
    model = Regression()
    with torch.no_grad(): model.net[3].weight.fill_(torch.inf)
    trainer = train(model, [TrainerWatch(tmp_path / "run", every=3, stop=stop)], tmp_path)
    assert trainer.state.global_step == (1 if stop else 24)
    assert Run(tmp_path / "run").failure["site"] == "net.3"


def test_huggingface_interrupted_leaves_a_report_when_closed(tmp_path):
    callback = TrainerWatch(tmp_path / "run", every=3)
    with pytest.raises(OverflowError): train(Regression(fails_at=5), [callback], tmp_path)
    callback.watching.close()
    assert Run(tmp_path / "run").ended and len(Run(tmp_path / "run").captures) == 2


def test_a_script_that_nobody_closes_leaves_a_report_and_imports_no_trainer(tmp_path):
    script = f"""if True:
        import sys, torch
        from painn_nb.loops import Watching
        assert not {{"lightning", "pytorch_lightning", "transformers", "tensorboard", "wandb"}} & set(sys.modules)
        net = torch.nn.Linear(2, 1)
        w = Watching(net, run_dir={str(tmp_path / "run")!r})
        w.begin(0); net(torch.ones(1, 2)); w.end()
        raise KeyboardInterrupt"""
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert "KeyboardInterrupt" in ended.stderr and Run(tmp_path / "run").outcome == "completed", ended.stderr


def test_a_full_disk_does_not_break_the_training(tmp_path):
    class Full(list):
        def append(self, record): raise OSError("no space left on device")
    net = nn.Linear(2, 1)
    with Watching(net, keep=Full()) as w, warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        w.begin(0)
        net(torch.ones(1, 2))
        assert not w.end()
    assert "no space left on device" in str(told[0].message)


def test_wandb_gets_captures_offline(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    net = nn.Linear(2, 1)
    with Watching(net, every=1) as w:
        for step in range(3):
            w.begin(step)
            net(torch.full((1, 2), torch.nan if step == 2 else 1.0))
            w.end()
    with wandb.init(mode="offline", dir=tmp_path, project="test") as run:
        to_wandb(w.watch.captures, run)
    file, deadline = next(tmp_path.rglob("*.wandb")), time.monotonic() + 60  # another process writes it
    while b"max/nonfinite" not in file.read_bytes() and time.monotonic() < deadline: time.sleep(0.2)
    written = file.read_bytes()
    assert b"debug/Linear().max/nonfinite" in written and b"debug/Linear().update_ratio" in written
