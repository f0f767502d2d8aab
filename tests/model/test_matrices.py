"""The run and its model have copies of the matrices that the user provides."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.matrix_files import read_matrices, write_run_copy

SAMPLES = np.random.default_rng(0).random((5, 8, 8), dtype=np.float32)


def settings(path):
    return load_config(
        "digits",
        [
            "reservoir.sequence=rows", "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "reservoir.batch_rows=128",
            "search.generations=0", "readout.kind=ridge", "training.threads=1", "run.progress=false",
            f"reservoir.matrices={path}",
        ],
    )  # fmt: skip


def write_matrices(path, seed=0):
    generator = np.random.default_rng(seed)
    np.savez(path, recurrent=0.1 * generator.standard_normal((20, 20)), input=generator.standard_normal((20, 8)))


def predicted(run):
    return TrainedModel.load(run / "train/model.pt").probabilities(SAMPLES, scaled=True)


@pytest.fixture
def trained(tmp_path):
    """Return the user's file and a run that was trained with it."""
    path = tmp_path / "mine.npz"
    write_matrices(path)
    run_stages(["prepare", "train"], settings(path), tmp_path / "run")
    return path, tmp_path / "run"


def test_a_model_needs_the_file_no_more(trained, tmp_path):
    path, run = trained
    before = predicted(run)
    path.unlink()
    assert run_stages(["train", "evaluate"], settings(path), run)["evaluate"]["accuracy"] > 0.5
    (run / "matrices.npz").unlink()
    moved = run.rename(tmp_path / "elsewhere")
    np.testing.assert_array_equal(predicted(moved), before)


def test_a_moved_run_continues_with_its_copy(trained, tmp_path):
    path, run = trained
    path.unlink()
    moved = run.rename(tmp_path / "elsewhere")
    recorded = load_config(str(moved / "config.toml"))
    assert recorded.reservoir.matrices == str(run / "matrices.npz")
    run_stages(["train", "evaluate"], recorded, moved)


def test_a_copied_run_continues_although_it_names_the_copy_of_the_first(trained, tmp_path):
    _, run = trained
    other = shutil.copytree(run, tmp_path / "other")
    recorded = load_config(str(other / "config.toml"))
    run_stages(["train"], recorded, other)
    write_matrices(tmp_path / "another.npz", seed=1)
    write_run_copy(run / "matrices.npz", read_matrices(tmp_path / "another.npz", 20, 8), "00" * 32)
    with pytest.raises(InputError, match="has changed since"):
        run_stages(["train"], recorded, other)


def test_a_file_that_has_changed_is_refused_until_the_stage_starts_over(trained):
    path, run = trained
    before = predicted(run)
    write_matrices(path, seed=1)
    with pytest.raises(InputError, match=r"mine\.npz: the file has changed since .*--restart"):
        run_stages(["train"], settings(path), run)
    run_stages(["train"], settings(path), run, restart=True)
    assert not np.array_equal(predicted(run), before)


def test_given_matrices_are_not_replaced_by_random_ones(trained, tmp_path):
    path, run = trained
    with pytest.raises(InputError, match="were from a file when this run started, and are now random"):
        run_stages(["train"], settings(""), run)
    run_stages(["train"], settings(""), run, restart=True)
    assert not (run / "matrices.npz").exists()
    with pytest.raises(InputError, match=r"were random when this run started, and are now from .*mine\.npz"):
        run_stages(["train"], settings(path), run)


def test_a_file_that_does_not_fit_is_named_and_may_be_mended(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, recurrent=np.eye(20), input=np.ones((20, 9)))
    with pytest.raises(InputError, match=r"mine\.npz: 'input' has the shape \(20, 9\)"):
        run_stages(["prepare", "train"], settings(path), tmp_path / "run")
    write_matrices(path)
    run_stages(["prepare", "train"], settings(path), tmp_path / "run")


def test_an_archive_with_a_password_is_named(tmp_path):
    path = tmp_path / "mine.npz"
    write_matrices(path)
    # The flag that marks the first member of the archive as encrypted.
    content = bytearray(path.read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.npz: cannot be read as an npz file .*encrypted"):
        read_matrices(path, 20, 8)


def test_a_missing_file_of_matrices_is_named(tmp_path):
    with pytest.raises(InputError, match=r"reservoir\.matrices = .*none\.npz: cannot be read"):
        run_stages(["prepare", "train"], settings(tmp_path / "none.npz"), tmp_path / "run")


def test_a_damaged_copy_is_refused_and_can_be_made_again_from_the_users_file(trained):
    path, run = trained
    copy, before = run / "matrices.npz", predicted(run)
    content = copy.read_bytes()
    for place in (0, 100, len(content) // 2, len(content) - 1):
        copy.write_bytes(content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :])
        with pytest.raises(DataDamagedError, match=r"run/matrices\.npz: .*--restart"):
            run_stages(["train"], settings(path), run)
    copy.write_bytes(path.read_bytes())
    with pytest.raises(DataDamagedError, match="no SHA-256"):
        run_stages(["train"], settings(path), run)
    run_stages(["train"], settings(path), run, restart=True)
    assert copy.read_bytes() == content
    np.testing.assert_array_equal(predicted(run), before)
