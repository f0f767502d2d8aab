"""Networks on ranks of MPI: two ranks return the results of one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from launch import python, rcdp, run_ranks
from whole_runs import CURVE, flags, lines

pytestmark = pytest.mark.mpi

SMALL = [
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.states=2", "reservoir.sequence=rows",
    "reservoir.input_scaling=0.3", "search.generations=0", "training.epochs=2", "training.threads=1",
    "readout.outputs=12", "readout.hidden=16", "readout.dropout=0.2", "data.balance=none", "run.seed=3",
    "training.gradient_norms=true",
]  # fmt: skip


def answers(ranks: int, out, changes) -> np.ndarray:
    settings = flags(*SMALL, *changes, f"training.batch={96 // ranks}")
    done = run_ranks(ranks, rcdp("run", "digits", "--out", str(out), *settings), timeout=120)
    assert done.returncode == 0, done.stdout
    test = json.loads((out / "report/summary.json").read_text())["test"]["accuracy"]
    return np.append(told(out), test)


def told(out) -> np.ndarray:
    """Return the epochs and gradient norms that a training recorded."""
    epochs = lines(out / "train/metrics.jsonl")
    norms = [norm for line in epochs for layer in line["gradients"]["layers"].values() for norm in layer.values()]
    by_step = [norm for line in epochs for norm in line["gradients"]["steps"]]
    return np.array([*(line[name] for line in epochs for name in CURVE), *norms, *by_step])


@pytest.mark.parametrize(
    "changes",
    [
        [
            "readout.kind=lstm",
            "extractor.kind=dictionary",
            "extractor.patch=3",
            "extractor.atoms=10",
            "extractor.pool=3",
            "extractor.patches=2000",
        ],
        [
            "extractor.kind=convolution",
            "extractor.channels=[8]",
            "extractor.whitening=2",
            "optimizer.kind=sgd",
            "optimizer.nesterov=true",
            "augment.crop=1",
            "augment.edges=reflect",
            "augment.alternate=true",
            "augment.flip=true",
            "augment.cutout=2",
            "augment.mixup=0.4",
        ],
    ],
    ids=["dictionary", "convolution"],
)
def test_two_ranks_return_the_results_of_one(changes, tmp_path):
    one, two = (answers(ranks, tmp_path / str(ranks), changes) for ranks in (1, 2))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
    learned = [torch.load(tmp_path / f"{ranks}/train/model.pt", weights_only=True).get("learned") for ranks in (1, 2)]
    if learned[0] is None:
        assert "extractor.kind=dictionary" not in changes
    else:
        assert all(torch.equal(learned[1][name], value) for name, value in learned[0].items())


STEPWISE = {
    "gru": ["readout.layers=2"],
    "transformer": ["readout.heads=2"],
    "convolution": ["optimizer.kind=muon", "optimizer.learning_rate=0.01"],
}


@pytest.fixture(scope="module")
def stepwise(tmp_path_factory):
    """Train each of these readouts with one rank and with two, one after the other in the same processes."""
    out = tmp_path_factory.mktemp("stepwise")
    code = (
        "import rcdp_hpc\n"
        "from rcdp_hpc.pipeline import stages\n"
        "from rcdp_hpc.config import load_config\n"
        "comm = rcdp_hpc.connect()\n"
        f"for readout, changes in {STEPWISE!r}.items():\n"
        "    own = [*changes, f'readout.kind={readout}', f'training.batch={96 // comm.size}']\n"
        f"    config = load_config('digits', [*{SMALL!r}, *own])\n"
        f"    stages.run_stages(['prepare', 'train'], config, f'{out}/{{comm.size}}/{{readout}}', comm)\n"
    )
    for ranks in (1, 2):
        done = run_ranks(ranks, python(code))
        assert done.returncode == 0, done.stdout
    return out


@pytest.mark.parametrize("readout", STEPWISE)
def test_two_ranks_train_a_stepwise_readout_like_one(readout, stepwise):
    one, two = (told(stepwise / str(ranks) / readout) for ranks in (1, 2))
    np.testing.assert_allclose(two, one, rtol=1e-4, atol=1e-4)
