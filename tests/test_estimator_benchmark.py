"""benchmarks/estimator_mnist.py: its arguments, what the estimator's process writes, and the table."""

from __future__ import annotations

import gzip
import json
import sys

import numpy as np
import pytest
from launch import REPOSITORY

# No longer than the import: other modules there have names of packages of the tests.
sys.path.insert(0, str(REPOSITORY / "benchmarks"))
import estimator_mnist

sys.path.remove(str(REPOSITORY / "benchmarks"))

TRAIN, TEST = 60, 20


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Return a folder in MNIST's format: bright images of class 1, dark ones of class 0."""
    folder = tmp_path_factory.mktemp("mnist")
    generator = np.random.default_rng(0)
    for part, count in (("train", TRAIN), ("t10k", TEST)):
        y = np.arange(count, dtype=np.uint8) % 2
        x = generator.integers(0, 120, (count, 28, 28)) + 120 * y[:, None, None]
        head = [(0x00000803).to_bytes(4, "big"), *(size.to_bytes(4, "big") for size in (count, 28, 28))]
        write(folder / f"{part}-images-idx3-ubyte.gz", head, x.astype(np.uint8))
        head = [(0x00000801).to_bytes(4, "big"), count.to_bytes(4, "big")]
        write(folder / f"{part}-labels-idx1-ubyte.gz", head, y)
    return str(folder)


def write(path, head, values):
    with gzip.open(path, "wb") as file:
        file.write(b"".join(head) + values.tobytes())


def test_the_estimator_fits_the_training_images_and_predicts_all(data, tmp_path):
    estimator_mnist.by_estimator(data, tmp_path, nodes=20, rows=0)
    predicted = np.load(tmp_path / estimator_mnist.LABELS)
    assert predicted.tolist() == [0, 1] * ((TRAIN + TEST) // 2)
    times = json.loads((tmp_path / estimator_mnist.TIMES).read_text())
    assert min(times["fit"], times["predict"]) > 0


def test_both_have_the_settings_of_one_tree(data):
    tree = estimator_mnist.settings(20, data)
    assert tree["data"]["path"] == data
    assert tree["reservoir"]["nodes"] == 20
    # Nothing may depend on defaults for a kind of data that ReservoirPy does not have.
    assert tree["extractor"]["kind"] == "none"


def test_different_predictions_are_an_error(data, monkeypatch, capsys):
    def measure(way, chosen, folder):
        folder.mkdir()
        labels = np.arange(TRAIN + TEST) % 2
        if way == "command":
            labels[3] = 7
        np.save(folder / estimator_mnist.LABELS, labels)
        return {"fit": 2.0, "predict": 1.0, "cpu": 3.0, "mb": 1024.0}

    monkeypatch.setattr(estimator_mnist, "measure", measure)
    with pytest.raises(SystemExit, match="predict 1 of 80 images differently"):
        estimator_mnist.main(["--data", data, "--repeats", "2", "--peer-rows", "30"])
    printed = capsys.readouterr().out
    assert "| estimator | 2.0 (2.0 to 2.0) | 1.0 (1.0 to 1.0) | 3.0 (3.0 to 3.0) | 1,024 (1,024 to 1,024) |" in printed
    assert "ReservoirPy" not in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ways", "reservoirpy", "--peer-rows", "30"], "--reservoirpy PYTHON"),
        (["--reservoirpy", "python", "--peer-rows", "61"], "--peer-rows 61"),
        (["--reservoirpy", "python", "--peer-rows", "1"], "--peer-rows 1"),
    ],
)
def test_wrong_arguments_are_refused(data, arguments, message, capsys):
    with pytest.raises(SystemExit) as end:
        estimator_mnist.main(["--data", data, *arguments])
    assert end.value.code == 2
    assert message in capsys.readouterr().err


def test_accuracy_is_of_the_predicted_images_only():
    assert estimator_mnist.accuracy(np.array([1, -1, 0, -1]), np.array([1, 1, 1, 0])) == 0.5
