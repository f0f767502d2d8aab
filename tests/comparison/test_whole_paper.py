"""``rcdp compare paper`` from its data sets to its document, in small sizes."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rcdp_hpc.cli import main
from rcdp_hpc.comparison.paper import scale
from rcdp_hpc.comparison.results import read_comparison
from rcdp_hpc.errors import EXIT_DONE

SMALL = replace(
    scale.QUICK,
    name="small",
    population=2,
    generations=1,
    candidate_epochs=1,
    candidate_rows=100,
    judging_rows=100,
    mnist_samples=0,
    cifar10_samples=0,
    cifar10_share=0.1,
    epochs=2,
    channels=(2, 2),
    effect_epochs=1,
    image_bytes=(2**22, 2**23, 3 * 2**22),
    fold_samples=0,
    fold_population=2,
    fold_generations=1,
    methods=("mfo", "ridge"),
)
# 74 training images of a class remain after a tenth is held out for validation.
CIFAR10_CLASS = 85


def blobs(labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return noisy images with a bright row for each class."""
    images = np.random.default_rng(0).integers(0, 100, (len(labels), *shape), np.uint8)
    images[np.arange(len(labels)), 2 * labels] += 150
    return images


def write_mnist(folder: Path) -> None:
    """Write the four IDX files of a data set of 28 x 28 pixels."""
    folder.mkdir()
    for part, count in (("train", 400), ("t10k", 100)):
        labels = np.arange(count) % 10
        for kind, array in (("images-idx3", blobs(labels, (28, 28))), ("labels-idx1", labels.astype(np.uint8))):
            header = bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4, "big") for size in array.shape)
            (folder / f"{part}-{kind}-ubyte").write_bytes(header + array.tobytes())


def write_cifar10(folder: Path) -> None:
    """Write Python batches of 32 x 32 pixels in three colours."""
    folder.mkdir()
    names = [f"data_batch_{number}" for number in range(1, 6)]
    for name, count in (*((name, 2 * CIFAR10_CLASS) for name in names), ("test_batch", 200)):
        labels = np.arange(count) % 10
        pixels = np.repeat(blobs(labels, (32, 32)).reshape(count, 1, 1024), 3, axis=1).reshape(count, 3072)
        content = {b"data": pixels, b"labels": labels.tolist()}
        (folder / name).write_bytes(pickle.dumps(content, protocol=2))
    meta = {b"label_names": [f"class {label}".encode() for label in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(meta, protocol=2))


def test_all_parts_of_the_paper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_mnist(tmp_path / "mnist")
    write_cifar10(tmp_path / "cifar10")
    monkeypatch.setattr(scale, "QUICK", SMALL)
    folders = ["--mnist", str(tmp_path / "mnist"), "--cifar10", str(tmp_path / "cifar10")]

    code = main(["compare", "paper", "--out", str(tmp_path / "paper"), *folders])

    assert code == EXIT_DONE
    assert main(["report", str(tmp_path / "paper"), "--to", str(tmp_path / "sent.html")]) == EXIT_DONE
    assert (tmp_path / "sent.html").read_text().count("data:image/png;base64,") == 4
    document = (tmp_path / "paper" / "paper.md").read_text()
    assert "Not finished" not in document
    for name, cells in (("table3", 4), ("table4", 4), ("figure4", 10)):
        assert [cell.status for cell in read_comparison(tmp_path / "paper" / name).cells] == ["done"] * cells
    for picture in ("table3/utilisation.png", "figure3/losses.png", "figure4/folds.png"):
        assert (tmp_path / "paper" / picture).stat().st_size > 1000
