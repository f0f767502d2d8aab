"""The files of a training: after failures, and on a resume."""

from __future__ import annotations

import json
import logging
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from settings import config_of
from torch import nn
from whole_runs import curve, lines

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import StageFailedError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.pipeline import stages
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training import session
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.monitor.divergence import DivergedError
from rcdp_hpc.training.report import Position
from rcdp_hpc.training.session import Session
from rcdp_hpc.training.stage import _report_other_ranks

SMALL = (
    "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "search.generations=0", "training.epochs=5",
    "readout.hidden=8", "readout.outputs=8", "training.threads=1", "training.baseline=false", "run.progress=false",
    "training.batch=64", "data.balance=none",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("prepared")
    stages.prepare(load_config("digits", SMALL), out)
    return out


@pytest.fixture
def out(prepared, tmp_path) -> Path:
    shutil.copytree(prepared, tmp_path / "run")
    return tmp_path / "run"


def train(out: Path, *changes: str) -> dict:
    return stages.train(load_config("digits", [*SMALL, *changes]), out)


def test_an_infinite_validation_loss_leaves_the_last_checkpoint_and_the_best_model(out, monkeypatch):
    """Checkpoints are written in epochs 2 and 4, epoch 3 is the best, and validation rows become NaN in epoch 4."""
    whole, trainers = Session.report, []

    def report(self, epoch) -> None:
        whole(self, epoch)
        trainers.append(self.trainer)
        if epoch.epoch == 2:
            self.trainer.validation.states[0] = float("inf")

    monkeypatch.setattr(Session, "report", report)
    with pytest.raises(DivergedError, match=r"epoch 4, after step .*model\.pt has the best weights so far"):
        train(out, "checkpoint.every_epochs=2")
    trainer: Trainer = trainers[-1]
    assert checkpoint.load(out / "train/last.pt")["trainer"]["position"]["epoch"] == 2
    assert trainer.position.best_epoch == 2
    model = torch.load(out / "train/model.pt", weights_only=True)["weights"]
    assert all(torch.equal(value, trainer.best_weights[name]) for name, value in model.items())
    assert len(lines(out / "train/metrics.jsonl")) == 3


def test_fewer_ranks_resume_with_the_batches_of_more_ranks_than_partitions(out, tmp_path):
    """Sixteen ranks use 24 partitions if 12 are configured; one process with 24 leaves the same checkpoint."""
    shutil.copytree(out, tmp_path / "straight")
    train(tmp_path / "straight", "partition.count=24", "training.epochs=2", "schedule.kind=constant")
    train(out, "partition.count=24", "training.epochs=1", "schedule.kind=constant")
    path = out / "train/last.pt"
    saved = checkpoint.load(path)
    assert saved["partition_count"] == 24
    settings = json.loads(saved["settings"])
    settings["partition"]["count"] = 12
    del saved["format"]
    checkpoint.save(path, {**saved, "settings": json.dumps(settings), "ranks": 16})
    train(out, "partition.count=12", "training.epochs=2", "schedule.kind=constant")
    assert curve(out).tolist() == curve(tmp_path / "straight").tolist()
    assert checkpoint.load(path)["partition_count"] == 24


@pytest.mark.parametrize(
    ("ranks", "step", "level", "words"),
    [
        (4, 3, "INFO", "results are equal to rounding"),
        (13, 0, "WARNING", "24 partitions instead of 12, so that each rank has at least one; results are not those"),
        (13, 3, "WARNING", "the rest of epoch 5, 808 rows, repeats some of the 192 rows it has seen"),
    ],
)
def test_a_resume_on_other_ranks_logs_how_the_batches_change(ranks, step, level, words, caplog):
    trainer = SimpleNamespace(position=Position(epoch=4, step=step))
    saved = SimpleNamespace(ranks=2, partition_count=12, global_batch=32, trainer=trainer)
    with caplog.at_level(logging.INFO, logger="rcdp_hpc"):
        _report_other_ranks(config_of(training__accumulate=2), ranks, saved, 1000)
    (record,) = caplog.records
    assert record.levelname == level
    assert words in record.getMessage()
    assert "batches stay 32 rows over all ranks" in record.getMessage()


@pytest.mark.parametrize("worth", [0.0, 60.0])
def test_the_log_has_the_time_left_of_a_long_training(out, worth, caplog, monkeypatch):
    monkeypatch.setattr(session, "LEAST_TIME_LEFT", worth)
    with caplog.at_level(logging.INFO, logger="rcdp_hpc.training.session"):
        train(out)
    told = [record.getMessage() for record in caplog.records if record.getMessage().startswith("epoch  ")]
    assert len(told) == 5
    assert max(map(len, told)) <= 80
    assert not any("waiting" in line for line in told)  # one rank waits for nobody
    assert [bool(re.search(r"\d s, \d+ s left$", line)) for line in told] == [not worth] * 5


def test_a_full_disk_is_reported_before_the_first_epoch(out, monkeypatch):
    usage = shutil.disk_usage
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(folder)._replace(free=100_000))
    with pytest.raises(StageFailedError, match=r"train: checkpoints need \d+\.\d MiB, and 0\.1 MiB are free"):
        train(out)
    assert not list((out / "train").glob("*"))


def room(
    folder: Path, monkeypatch, ranks: int = 1, replicas: str = "synchronised", matrices: str = "", learned=()
) -> int:
    """Return the disk space that a training of 1000 weights, 4000 bytes, needs."""
    comm, asked = SingleProcess(), []
    monkeypatch.setattr(comm, "size", ranks, raising=False)
    monkeypatch.setattr(checkpoint, "check_free_space", lambda folder, needed: asked.append(needed))
    config = load_config("digits", [*SMALL, f"parallel.replicas={replicas}", f"reservoir.matrices={matrices!r}"])
    session = Session(config, comm, RunDirectory(folder), shards=None)
    session.learned = dict(learned)
    session.trainer = SimpleNamespace(network=nn.Linear(1000, 1, bias=False), replicas=replicas != "synchronised")
    session._check_room()
    return asked[0]


def test_disk_space_is_needed_for_checkpoints_one_more_and_the_model(tmp_path, monkeypatch):
    """Checkpoints have weights, the best weights and two moments."""
    mebi = 2**20
    whole = room(tmp_path, monkeypatch)
    assert whole == 3 * (4 * 4000 + mebi) + 3 * (4000 + mebi)
    (tmp_path / "train/dictionary.pt").write_bytes(bytes(300))
    (tmp_path / "train/ridge.pt").write_bytes(bytes(300))
    assert room(tmp_path, monkeypatch) == whole
    (tmp_path / "train/last.pt.previous").write_bytes(bytes(200))
    (tmp_path / "train/model.pt").write_bytes(bytes(70))
    assert room(tmp_path, monkeypatch) == whole - 270


def test_disk_space_is_needed_for_a_dictionary_and_for_the_users_matrices(tmp_path, monkeypatch):
    matrices = tmp_path / "mine.npz"
    np.savez_compressed(matrices, recurrent=np.zeros((100, 100)))
    beside = room(tmp_path, monkeypatch, matrices=str(matrices), learned={"atoms": torch.zeros(50)})
    # With the header of a NumPy file; a model, the one before it, and one while it is written.
    assert beside - room(tmp_path, monkeypatch) == 3 * (80_000 + 128 + 200)


def test_an_ensembles_model_is_as_large_as_all_its_networks(tmp_path, monkeypatch):
    averaged = room(tmp_path, monkeypatch, ranks=5, replicas="averaged")
    assert room(tmp_path, monkeypatch, ranks=5, replicas="ensemble") - averaged == 3 * 4 * 4000


def test_torchs_generator_is_seeded_by_seed_and_position(out, tmp_path, monkeypatch):
    """The package does not use it, but a user's module may."""
    seeds, take = [], Trainer.run

    def run(trainer, *arguments):
        seeds.append(torch.initial_seed())
        take(trainer, *arguments)

    monkeypatch.setattr(Trainer, "run", run)
    for name, changes in [("one", ()), ("two", ()), ("other", ("run.seed=5",))]:
        shutil.copytree(out, tmp_path / name)
        torch.manual_seed(len(seeds))
        config = load_config("digits", [*SMALL, "training.epochs=1", *changes])
        if changes:
            stages.prepare(config, tmp_path / name, restart=True)
        stages.train(config, tmp_path / name)
    assert seeds[0] == seeds[1] != seeds[2]
    train(tmp_path / "one", "training.epochs=2")
    assert len(set(seeds)) == 3


def test_the_step_within_an_epoch_is_noted_in_a_file(out, monkeypatch):
    monkeypatch.setattr(session, "SECONDS_BETWEEN_NOTES", 0.0)
    monkeypatch.setattr("rcdp_hpc.training.loop.SECONDS_BETWEEN_PAUSES", 0.0)
    train(out, "training.epochs=1")
    position = json.loads((out / "train/position.json").read_text())
    assert position["epoch"] == 0
    assert 0 < position["step"] < position["steps"]


def test_the_training_ends_before_the_epoch_that_its_time_is_too_short_for(out):
    short = train(out, "training.epochs=1000", "training.patience=1000", "training.stop_seconds=0.001")
    assert short["epochs"] == 1
    assert "training.stop_seconds = 0.001" in short["ended"]
    assert train(out, "training.epochs=1000", "training.patience=1000", "training.stop_seconds=0.001") == short
    longer = train(out, "training.epochs=3", "training.stop_seconds=1e6")
    assert (longer["epochs"], longer["ended"]) == (3, "3 epochs done")
