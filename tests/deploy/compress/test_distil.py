"""rcdp compress --distil: a smaller network that learns from a trained model."""

from __future__ import annotations

from pathlib import Path

import pytest
from trainings import Training, ended, train_together

from rcdp_hpc.deploy.compress.distil import trained_numbers
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.pipeline.compression import compress

SMALL = (
    "data.max_samples=300", "data.balance=none", "reservoir.nodes=30", "reservoir.kernel=dense-fp32",
    "training.batch=24", "search.generations=0", "training.epochs=3", "training.threads=1", "run.progress=false",
    "readout.hidden=24", "readout.outputs=16", "training.baseline=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A trained network, a ridge readout and convolutions."""
    folder = tmp_path_factory.mktemp("distil")
    network = str(folder / "network")
    convolution = ("extractor.kind=convolution", "extractor.channels=[12]", "reservoir.kind=none")
    train_together(0, [
        Training(network, SMALL, stages=("prepare", "train", "evaluate")),
        Training(str(folder / "ridge"), (*SMALL, "readout.kind=ridge"), source=network, stages=("train", "evaluate")),
        Training(str(folder / "images"), (*SMALL, *convolution), source=network),
    ])  # fmt: skip
    for name in ("network", "ridge", "images"):
        ended(folder / name)
    return folder


def numbers(run: Path) -> int:
    file = ModelFile.read(run / "train/model.pt")
    return trained_numbers(file.config, file.sample_shape, len(file.classes))


def test_the_numbers_of_a_network_by_hand(folder):
    # 480 features: eq. 10, two layers and their normalisations, the scores.
    features = len(ModelFile.read(folder / "network/train/model.pt").weights["state_mean"])
    assert numbers(folder / "network") == features * 16 + 16 * 24 + 24 * 24 + 2 * 2 * 24 + 24 * 10 + 10


@pytest.mark.parametrize("name", ["network", "images"])
def test_a_tenth_of_a_network_learns_from_it(folder, tmp_path, name):
    result = compress(folder / name, tmp_path / "new", keep=0.25, distil=True)
    assert numbers(tmp_path / "new") <= 0.25 * numbers(folder / name)
    # No wider network fits: one more unit in each layer is too large.
    assert numbers(tmp_path / "new") > 0.15 * numbers(folder / name)
    config = ModelFile.read(tmp_path / "new/train/model.pt").config
    assert config.loss.teacher == [str(folder / name / "train/model.pt")]
    assert (tmp_path / "new/train/teacher.pt").exists()
    assert result.after.size.trained < result.before.size.trained
    assert "accuracy" in result.after.scores


def test_a_network_learns_from_a_solved_readout_with_the_users_widths(folder, tmp_path):
    changes = {"readout.kind": "network", "readout.hidden": 8, "readout.outputs": 4}
    compress(folder / "ridge", tmp_path / "new", distil=True, changes=changes)
    config = ModelFile.read(tmp_path / "new/train/model.pt").config
    assert (config.readout.hidden, config.readout.outputs) == (8, 4)
    assert config.loss.teacher == [str(folder / "ridge/train/model.pt")]


def test_a_solved_readout_cannot_learn_from_a_model(folder, tmp_path):
    with pytest.raises(InputError, match=r"readout\.kind = 'ridge' is solved\. Choose a trained readout"):
        compress(folder / "ridge", tmp_path / "new", distil=True)


def test_a_network_that_cannot_be_as_small_is_refused(folder, tmp_path):
    with pytest.raises(InputError, match=r"keep = 0\.001: with widths of 2 the network still has"):
        compress(folder / "network", tmp_path / "new", keep=0.001, distil=True)
