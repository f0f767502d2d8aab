from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from data.conftest import write_idx
from data.sources.test_cifar import python_batches, write_folder
from data.sources.test_ts import TRAIN
from data.sources.test_ts import write as write_series
from launch import python, rcdp, run_ranks
from sklearn.datasets import load_digits

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source, read_samples

SETTINGS = (
    "data.source=mnist", "data.class_keep_fractions=[]",
    "search.generations=0", "reservoir.nodes=40", "reservoir.kernel=dense-fp32",
    "reservoir.batch_rows=64", "training.epochs=3", "training.threads=1", "training.baseline=false",
)  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> tuple[Path, Path]:
    """A model trained on digits as IDX files, and their folder."""
    folder = tmp_path_factory.mktemp("idx")
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)
    for part, rows in (("train", slice(300, None)), ("t10k", slice(0, 300))):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[rows])
        write_idx(folder / f"{part}-labels-idx1-ubyte", digits.target[rows])
    out = folder.parent / "run"
    wishes = [part for value in (*SETTINGS, f"data.path={folder}") for part in ("--set", value)]
    for stage in ("prepare", "train"):
        done = run_ranks(0, rcdp(stage, "digits", "--out", str(out), *wishes))
        assert done.returncode == 0, done.stdout
    return out, folder


def predicted(ranks: int, run: Path, samples: Path, output: Path) -> str:
    done = run_ranks(ranks, rcdp("predict", str(run), str(samples), "--to", str(output)))
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def alone(trained, tmp_path_factory) -> dict[str, np.ndarray]:
    """The predictions of one process for all samples of the source."""
    path = tmp_path_factory.mktemp("alone") / "out.npz"
    predicted(0, *trained, path)
    return dict(np.load(path))


def test_a_whole_source_is_predicted_in_the_order_of_its_samples(trained, alone, tmp_path, dead_process):
    run, folder = trained
    # The model is calibrated by its 144 validation rows, and the file says so.
    probability = alone["calibrated_probability"]
    assert probability.shape == (1797, 10)
    assert probability.dtype == np.float32
    # Offsets of classes may make another class more probable than the answered one.
    assert (alone["label"] == probability.argmax(1)).mean() > 0.8
    np.testing.assert_array_equal(alone["name"], alone["label"].astype(str))
    truth = np.roll(load_digits().target, -300)
    assert (alone["label"] == truth).mean() > 0.5
    # A leftover of an earlier prediction that was killed.
    (tmp_path / f".test.npz.{dead_process.tag}.abc.tmp").touch()
    predicted(0, run, folder / "t10k-images-idx3-ubyte", tmp_path / "test.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["test.npz"]
    with np.load(tmp_path / "test.npz") as test:
        np.testing.assert_allclose(test["calibrated_probability"], probability[-300:], atol=1e-5)


@pytest.mark.mpi
@pytest.mark.parametrize("ranks", [2, 3])
def test_ranks_share_the_samples_and_write_one_file(ranks, trained, alone, tmp_path):
    output = predicted(ranks, *trained, tmp_path / "out.npz")
    assert output.count("wrote labels and probabilities of 1797 samples") == 1
    with np.load(tmp_path / "out.npz") as out:
        np.testing.assert_allclose(out["calibrated_probability"], alone["calibrated_probability"], atol=1e-6)
        np.testing.assert_array_equal(out["name"], alone["name"])
    predicted(ranks, *trained, tmp_path / "out.csv")
    with open(tmp_path / "out.csv", newline="") as file:
        table = list(csv.reader(file))
    assert table[0][:3] == ["sample", "label", "calibrated_p_0"]
    assert [int(row[0]) for row in table[1:]] == list(range(1797))
    assert [row[1] for row in table[1:]] == alone["name"].tolist()


@pytest.mark.mpi
def test_an_error_of_all_ranks_is_reported_once(trained, tmp_path):
    run, _ = trained
    np.savez(tmp_path / "x.npz", x=np.zeros((300, 9, 9), np.uint8))
    done = run_ranks(2, rcdp("predict", str(run), str(tmp_path / "x.npz"), "--to", str(tmp_path / "y.csv")), timeout=60)
    assert done.returncode == 2, done.stdout
    assert done.stdout.count("(9, 9); this model takes (8, 8)") == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "x.npz"]


@pytest.mark.mpi
def test_a_disk_that_is_full_ends_all_ranks(trained, tmp_path):
    run, folder = trained
    code = (
        "import sys, errno, os, rcdp_hpc.cli as cli, rcdp_hpc.deploy.predict as predict\n"
        "from rcdp_hpc.deploy.formats.csv_table import CsvFormat\n"
        "write = CsvFormat.write\n"
        "def full(self, file, predictions):\n"
        "    if predictions.rows == 2: return write(self, file, predictions)\n"
        "    next(iter(predictions.blocks))\n"
        "    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "CsvFormat.write = full\n"
        "predict.BLOCK_ROWS = 64\n"
        "sys.exit(cli.main(sys.argv[1:]))\n"
    )
    command = ["predict", str(run), str(folder), "--to", str(tmp_path / "y.csv")]
    done = run_ranks(2, [*python(code), *command], timeout=60)
    assert done.returncode not in (0, 75)
    assert done.stdout.count("no space left to write") == 1
    assert list(tmp_path.iterdir()) == []


def test_sources_of_several_files_give_all_their_samples(tmp_path):
    write_folder(tmp_path / "cifar", python_batches())
    settings = DataSection(source="cifar10", path=str(tmp_path / "cifar"))
    source = open_source(settings)
    new = read_samples(tmp_path / "cifar", settings)
    samples, lengths = new.x, new.lengths
    assert lengths is None
    assert samples.shape == (len(source.train) + len(source.test), 32, 32, 3)
    np.testing.assert_array_equal(samples[: len(source.train)], source.train.x[:])
    np.testing.assert_array_equal(samples[len(source.train) :], source.test.x[:])
    edge = len(source.train)
    np.testing.assert_array_equal(samples[edge - 1 : edge + 1], [source.train.x[edge - 1], source.test.x[0]])


def test_series_of_a_folder_are_padded_to_the_length_of_the_model(tmp_path):
    write_series(tmp_path, test=TRAIN)
    new = read_samples(tmp_path, DataSection(source="ts"), longest=9)
    samples, lengths = new.x, new.lengths
    part = open_source(DataSection(source="ts", path=str(tmp_path))).train
    assert samples.shape == (2 * len(part), 9, part.x.shape[2])
    np.testing.assert_array_equal(lengths, np.tile(part.lengths, 2))
    np.testing.assert_array_equal(samples[len(part) :][:, : part.x.shape[1]], part.x[:])
    assert (samples[:][:, part.x.shape[1] :] == 0).all()
