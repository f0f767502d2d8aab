"""Models that cannot be merged, updated or reduced: one message each."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from sites import BY_SITE, SETTINGS, joined, samples, train

from rcdp_hpc.cli import main
from rcdp_hpc.config import load_config
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.pipeline.stages import run_stages


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A run of two sites, and runs of a third one that do not fit it."""
    folder = tmp_path_factory.mktemp("bad")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        np.savez(folder / "first.npz", **joined(samples(0), samples(1)))
        np.savez(folder / "third.npz", **samples(2))
        two = samples(2)
        np.savez(folder / "two.npz", **{name: values[two["y"] != "b"] for name, values in two.items()})
        like = f"data.like={folder / 'first'}"
        train(folder / "first", folder / "first.npz")
        train(folder / "scaled", folder / "third.npz")
        train(folder / "nodes", folder / "third.npz", like, "reservoir.nodes=13")
        train(folder / "classes", folder / "two.npz")
        train(folder / "plain", folder / "third.npz", like, "readout.keep_sums=false")
    return folder


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["merge", "first"], "needs two models or more"),
        (["merge", "first", "scaled"], "have other preparations: standardization.center"),
        (["merge", "first", "nodes"], "have other settings: reservoir.nodes (13 and 12)"),
        (["merge", "first", "classes"], "have other classes: a, c and a, b, c"),
        (["merge", "first", "plain"], "there are no sums next to it (sums.npz)"),
        (["merge", "first", "first"], "unit north is in"),
        (["merge", "first", "nowhere"], "there is no trained model"),
        (["forget", "first", "east"], "there is no unit 'east'. Units: north, south."),
        (["forget", "first", "north", "south"], "no training rows are left"),
        (["update", "first", "first.npz"], "unit north is in"),
        (["update", "first", "third.npz", "--unit=more"], "--unit more: the model has units by data.unit_pattern"),
        (["update", "first", "nowhere.npz"], "nowhere.npz: no such file"),
    ],
)
def test_what_does_not_fit_is_refused(folder, monkeypatch, capsys, words, message):
    monkeypatch.chdir(folder)
    assert main([*words, "--to", "new.pt"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("new.pt").exists()


def test_a_model_is_not_replaced_by_the_result(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    assert main(["forget", "first", "north", "--to", "first/train/model.pt"]) == 2
    assert "is one of the models" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("damage", "message"),
    [("cut", "has no SHA-256 at its end"), ("flip", "its SHA-256 differs"), ("exchange", "the sums of another model")],
)
def test_damaged_sums_are_refused(folder, tmp_path, capsys, damage, message):
    shutil.copytree(folder / "first/train", tmp_path / "first/train")
    sums = tmp_path / "first/train/sums.npz"
    content = bytearray(sums.read_bytes())
    if damage == "cut":
        content = content[:-10]
    elif damage == "flip":
        content[500] ^= 1
    else:
        content = bytearray((folder / "scaled/train/sums.npz").read_bytes())
    sums.write_bytes(content)
    assert main(["forget", str(tmp_path / "first"), "north", "--to", str(tmp_path / "new.pt")]) == 3
    assert message in capsys.readouterr().err


def test_features_beyond_the_limit_are_refused(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    content = joined(samples(0), samples(1))
    np.savez(tmp_path / "large.npz", **{**content, "x": 2e4 * content["x"]})
    unbounded = ["reservoir.kind=none", "data.standardize=none"]
    with pytest.raises(CandidateError, match=r"exact sums hold sums below 6\.71e\+07"):
        train(tmp_path / "large", tmp_path / "large.npz", *unbounded)


def test_unknown_units_are_not_left_out(folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/shards").symlink_to(folder / "first/shards")
    settings = [*BY_SITE, f"data.path={folder / 'first.npz'}", "readout.without_units=['east']"]
    with pytest.raises(InputError, match=r"readout\.without_units: there is no unit 'east'"):
        run_stages(["train"], load_config("series", settings), tmp_path / "run")


def test_shards_of_two_runs_are_other_units(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    like = f"data.like={folder / 'first'}"
    for name in ("first", "third"):
        train(tmp_path / name, folder / f"{name}.npz", like, base=SETTINGS)
    assert main(["merge", "first", "third", "--to", "both.pt"]) == 0
    assert main(["update", "first", str(folder / "third.npz"), "--unit", "third", "--to", "more.pt"]) == 0
    capsys.readouterr()
    assert main(["forget", "both.pt", "train-00000-of-00004.h5", "--to", "none.pt"]) == 2
    error = capsys.readouterr().err
    assert "/train-00000-of-00004.h5" in error
    assert main(["forget", "more.pt", "third", "--to", "less.pt"]) == 0
    assert Path("less.pt").exists()
