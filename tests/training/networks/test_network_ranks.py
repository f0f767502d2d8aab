"""Networks on real ranks: the answers of two are those of one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from launch import rcdp, run_ranks

pytestmark = pytest.mark.mpi

SMALL = [
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.states=2", "reservoir.sequence=rows",
    "reservoir.input_scaling=0.3", "search.generations=0", "training.epochs=2", "training.threads=1",
    "training.outputs=12", "training.hidden=16", "training.dropout=0.2", "data.balance=none", "run.seed=3",
    "training.gradient_norms=true",
]  # fmt: skip


def curve(ranks: int, out, changes) -> np.ndarray:
    settings = [*SMALL, *changes, f"training.batch={96 // ranks}"]
    flags = [part for value in settings for part in ("--set", value)]
    done = run_ranks(ranks, rcdp("run", "digits", "--out", str(out), *flags), timeout=120)
    assert done.returncode == 0, done.stdout
    names = ("train_loss", "train_accuracy", "validation_loss", "validation_accuracy")
    lines = [json.loads(line) for line in (out / "train/metrics.jsonl").read_text().splitlines()]
    test = json.loads((out / "report/summary.json").read_text())["test"]["accuracy"]
    norms = [norm for line in lines for layer in line["gradients"]["layers"].values() for norm in layer.values()]
    by_step = [norm for line in lines for norm in line["gradients"]["steps"]]
    return np.array([*(line[name] for line in lines for name in names), test, *norms, *by_step])


@pytest.mark.parametrize(
    "changes",
    [
        [
            "training.readout=lstm",
            "training.extractor.kind=dictionary",
            "training.extractor.patch=3",
            "training.extractor.atoms=10",
            "training.extractor.pool=3",
            "training.extractor.patches=2000",
        ],
        [
            "training.extractor.kind=convolution",
            "training.extractor.channels=[8]",
            "training.extractor.whitening=2",
            "training.optimizer=sgd",
            "training.nesterov=true",
            "training.augment.crop=1",
            "training.augment.edges=reflect",
            "training.augment.alternate=true",
            "training.augment.flip=true",
            "training.augment.cutout=2",
            "training.augment.mixup=0.4",
        ],
    ],
    ids=["dictionary", "convolution"],
)
def test_two_ranks_give_the_answers_of_one(changes, tmp_path):
    one, two = (curve(ranks, tmp_path / str(ranks), changes) for ranks in (1, 2))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    learned = [torch.load(tmp_path / f"{ranks}/train/model.pt", weights_only=True).get("learned") for ranks in (1, 2)]
    if learned[0] is None:
        assert "training.extractor.kind=dictionary" not in changes
    else:
        assert all(torch.equal(learned[1][name], value) for name, value in learned[0].items())
