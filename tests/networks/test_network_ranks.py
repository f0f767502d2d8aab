"""Networks on ranks of MPI: two ranks return the results of one, on both engines."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from trainings import ENGINES_HERE, Training, ended, on_both_engines, train_together
from whole_runs import CURVE, lines

pytestmark = pytest.mark.mpi

SMALL = [
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.states=2", "reservoir.sequence=rows",
    "reservoir.input_scaling=0.3", "search.generations=0", "training.epochs=2", "training.threads=1",
    "readout.outputs=12", "readout.hidden=16", "readout.dropout=0.2", "data.balance=none", "run.seed=3",
    "training.gradient_norms=true", "run.progress=false",
]  # fmt: skip
# Networks that are evaluated as well.
EXTRACTORS = {
    "dictionary": [
        "readout.kind=lstm", "extractor.kind=dictionary", "extractor.patch=3", "extractor.atoms=10",
        "extractor.pool=3", "extractor.patches=2000",
    ],
    "convolution": [
        "extractor.kind=convolution", "extractor.channels=[8]", "extractor.whitening=2", "optimizer.kind=sgd",
        "optimizer.nesterov=true", "augment.crop=1", "augment.edges=reflect", "augment.alternate=true",
        "augment.flip=true", "augment.cutout=2", "augment.mixup=0.4",
    ],
}  # fmt: skip
STEPWISE = {
    "gru": ["readout.kind=gru", "readout.layers=2"],
    "transformer": ["readout.kind=transformer", "readout.heads=2"],
    "muon": ["readout.kind=convolution", "optimizer.kind=muon", "optimizer.learning_rate=0.01"],
}
# Its results depend on the number of ranks.
OWN_STATISTICS = {"own-statistics": ["parallel.batch_statistics=rank", "training.accumulate=2"]}


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Train each network in this process, and on two ranks one after the other."""
    folder = tmp_path_factory.mktemp("networks")
    train_together(0, [Training(str(folder / "prepared"), SMALL, stages=["prepare"])])

    def trainings(engine: str, ranks: int) -> list[Training]:
        return [
            Training(
                str(folder / (engine or "alone") / name), [*SMALL, *changes, f"training.batch={96 // ranks}"], engine,
                str(folder / "prepared"), stages=["train", "evaluate"] if name in EXTRACTORS else ["train"],
            )
            for name, changes in {**EXTRACTORS, **STEPWISE, **(OWN_STATISTICS if engine else {})}.items()
        ]  # fmt: skip

    train_together(0, trainings("", 1))
    train_together(2, [training for engine in ENGINES_HERE for training in trainings(engine, 2)])
    return folder


def recorded(out: Path) -> np.ndarray:
    """Return the epochs and gradient norms that a training recorded."""
    epochs = lines(ended(out) / "train/metrics.jsonl")
    norms = [norm for line in epochs for layer in line["gradients"]["layers"].values() for norm in layer.values()]
    by_step = [norm for line in epochs for norm in line["gradients"]["steps"]]
    return np.array([*(line[name] for line in epochs for name in CURVE), *norms, *by_step])


@on_both_engines
@pytest.mark.parametrize("name", [*EXTRACTORS, *STEPWISE])
def test_two_ranks_train_a_network_like_one(name, engine, trained):
    one, two = (recorded(trained / run / name) for run in ("alone", engine))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [*EXTRACTORS, *STEPWISE, *OWN_STATISTICS])
@pytest.mark.skipif(len(ENGINES_HERE) < 2, reason="Horovod is not installed")
def test_both_engines_train_a_network_to_the_same_bits(name, trained):
    one, other = (recorded(trained / engine / name) for engine in ENGINES_HERE)
    np.testing.assert_array_equal(one, other)


@on_both_engines
@pytest.mark.parametrize("name", EXTRACTORS)
def test_two_ranks_learn_an_extractor_and_evaluate_it_like_one(name, engine, trained):
    runs = [trained / run / name for run in ("alone", engine)]
    learned = [torch.load(run / "train/model.pt", weights_only=True).get("learned") for run in runs]
    if name == "dictionary":
        assert all(torch.equal(learned[1][key], value) for key, value in learned[0].items())
    accuracy = [json.loads((run / "report/summary.json").read_text())["test"]["accuracy"] for run in runs]
    assert accuracy[1] == pytest.approx(accuracy[0], abs=1e-4)
