"""A training's files: what is written where it ends badly."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from runs import lines

from rcdp_hpc import pipeline
from rcdp_hpc.config import load_config
from rcdp_hpc.training import checkpoint
from rcdp_hpc.training.divergence import DivergedError
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.session import Session

SMALL = (
    "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=5",
    "training.hidden=8", "training.outputs=8", "training.threads=1", "training.baseline=false", "run.progress=false",
    "training.batch=64", "data.balance=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    pipeline.prepare(load_config("digits", SMALL), out)
    return out


@pytest.fixture
def out(prepared, tmp_path) -> Path:
    shutil.copytree(prepared, tmp_path / "run")
    return tmp_path / "run"


def train(out: Path, *changes: str) -> dict:
    return pipeline.train(load_config("digits", [*SMALL, *changes]), out)


def test_where_the_validation_loss_is_not_finite_the_last_sound_checkpoint_and_the_best_model_stay(out, monkeypatch):
    """Checkpoints are of epochs 2 and 4, epoch 3 is the best, and the rows of validation are spoilt in epoch 4."""
    whole, trainers = Session.report, []

    def report(self, epoch) -> None:
        whole(self, epoch)
        trainers.append(self.trainer)
        if epoch.epoch == 2:
            self.trainer.validation.states[0] = float("inf")

    monkeypatch.setattr(Session, "report", report)
    with pytest.raises(DivergedError, match=r"epoch 4, after step .*model\.pt holds the best weights so far"):
        train(out, "training.checkpoint_epochs=2")
    trainer: Trainer = trainers[-1]
    assert checkpoint.load(out / "train/last.pt")["trainer"]["position"]["epoch"] == 2
    assert trainer.position.best_epoch == 2
    model = torch.load(out / "train/model.pt", weights_only=True)["weights"]
    assert all(torch.equal(value, trainer.best_weights[name]) for name, value in model.items())
    assert len(lines(out / "train/metrics.jsonl")) == 3
