"""Networks that ranks train apart: put together in the model, each in the checkpoint, resumed to the bit."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
import torch
from launch import rcdp, run_ranks
from whole_runs import flags, lines, prepare_digits

from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.ensemble import Ensemble
from rcdp_hpc.training.replicas import mean_weights

pytestmark = pytest.mark.mpi

SETTINGS = flags(
    "reservoir.nodes=60", "reservoir.kernel=dense-fp32", "search.generations=0", "readout.hidden=16",
    "readout.outputs=16", "training.threads=1", "training.baseline=false", "training.batch=16",
    "schedule.kind=constant",
)  # fmt: skip


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    return prepare_digits(tmp_path_factory.mktemp("prepared") / "run", SETTINGS)


def train(prepared: Path, out: Path, kind: str, epochs: int) -> subprocess.CompletedProcess[str]:
    if not out.exists():
        shutil.copytree(prepared, out)
    own = ["--set", f"parallel.replicas={kind}", "--set", f"training.epochs={epochs}"]
    return run_ranks(2, rcdp("train", "digits", "--out", str(out), *SETTINGS, *own), timeout=240)


def checkpoint(out: Path) -> dict:
    return torch.load(out / "train/last.pt", weights_only=True)


def model(out: Path) -> dict[str, torch.Tensor]:
    """Return the weights of the model, and see that they are those of the last epoch, as the checkpoint's are."""
    entries = lines(out / "train/metrics.jsonl")
    assert checkpoint(out)["trainer"]["position"]["best_epoch"] == len(entries) - 1
    return torch.load(out / "train/model.pt", weights_only=True)["weights"]


def test_replicas_are_averaged_by_their_rows(prepared, tmp_path):
    done = train(prepared, tmp_path / "run", "averaged", 2)
    assert done.returncode == 0, done.stdout
    replicas = [one["network"] for one in checkpoint(tmp_path / "run")["trainer"]["replicas"]]
    assert any(not torch.equal(value, replicas[1][name]) for name, value in replicas[0].items())
    counts = lines(tmp_path / "run/train/class_counts.jsonl")[0]["counts"]
    expected = mean_weights([(sum(rows), weights) for rows, weights in zip(counts, replicas, strict=True)])
    for name, value in model(tmp_path / "run").items():
        torch.testing.assert_close(value, expected[name])


def test_an_ensemble_is_kept_whole_and_resumes_to_the_bit(prepared, tmp_path):
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    for out, epochs in ((straight, 2), (resumed, 1), (resumed, 2)):
        done = train(prepared, out, "ensemble", epochs)
        assert done.returncode == 0, done.stdout
    weights = model(straight)
    assert Ensemble.count(weights) == 2
    for number, one in enumerate(checkpoint(straight)["trainer"]["replicas"]):
        assert all(torch.equal(value, weights[f"members.{number}.{name}"]) for name, value in one["network"].items())
    assert all(torch.equal(value, model(resumed)[name]) for name, value in weights.items())
    network = TrainedModel.load(straight / "train/model.pt").network
    assert isinstance(network, Ensemble)
    assert len(network.members) == 2
