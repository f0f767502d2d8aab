"""Merging, updating and forgetting give the bits of a training on the union or the rest, for 1 and 3 ranks."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from launch import rcdp, run_ranks
from sites import BY_SITE, SETTINGS, joined, samples, train
from trainings import Training, ended, train_together

from rcdp_hpc.config import load_config
from rcdp_hpc.deploy.sums.merge import forget_units, merge_models
from rcdp_hpc.deploy.sums.update import update_model
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.training.solve.kept_sums import KeptSums


def weights(model: Path) -> dict[str, bytes]:
    state = torch.load(model, weights_only=True)["weights"]
    return {name: value.numpy().tobytes() for name, value in state.items()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Runs of the first two sites, of the third one, of all three, and of all three with shards as units."""
    folder = tmp_path_factory.mktemp("sums")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        for name, sites in (("first", (0, 1)), ("third", (2,)), ("all", (0, 1, 2))):
            np.savez(folder / f"{name}.npz", **joined(*(samples(site) for site in sites)))
        train(folder / "first", folder / "first.npz")
        for name in ("third", "all"):
            train(folder / name, folder / f"{name}.npz", f"data.like={folder / 'first'}")
        train(folder / "shards", folder / "all.npz", base=SETTINGS)
    return folder


def test_a_merged_model_is_the_model_of_the_union(runs, tmp_path):
    result = merge_models([runs / "first", runs / "third"], tmp_path / "both.pt")
    assert (
        weights(tmp_path / "both.pt") == weights(runs / "all/train/model.pt") != weights(runs / "first/train/model.pt")
    )
    assert KeptSums.read(result.files[1]).units == ["north", "south", "west"]
    assert merge_models([runs / "third", runs / "first"], tmp_path / "other.pt").rows == result.rows
    assert weights(tmp_path / "other.pt") == weights(tmp_path / "both.pt")


def test_an_updated_model_is_the_model_of_the_union(runs, tmp_path):
    result = update_model(runs / "first", runs / "third.npz", tmp_path / "more.pt", SingleProcess())
    assert weights(tmp_path / "more.pt") == weights(runs / "all/train/model.pt")
    assert result.units == 3


def test_a_model_that_forgets_a_site_is_the_model_of_the_rest(runs, tmp_path):
    forget_units(runs / "all", ["west"], tmp_path / "rest.pt")
    assert weights(tmp_path / "rest.pt") == weights(runs / "first/train/model.pt")


def test_a_model_that_forgets_a_shard_is_the_model_of_the_rest(runs, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    shard = "train-00001-of-00004.h5"
    forget_units(runs / "shards", [shard], tmp_path / "rest.pt")
    (tmp_path / "again").mkdir()
    (tmp_path / "again/shards").symlink_to(runs / "shards/shards")
    settings = [*SETTINGS, f"data.path={runs / 'all.npz'}", f"readout.without_units=['{shard}']"]
    run_stages(["train"], load_config("series", settings), tmp_path / "again")
    assert weights(tmp_path / "rest.pt") == weights(tmp_path / "again/train/model.pt")
    assert weights(tmp_path / "rest.pt") != weights(runs / "shards/train/model.pt")
    # What is forgotten can be merged again.
    assert KeptSums.read(tmp_path / "rest.sums.npz").units == [
        name for name in KeptSums.read(runs / "shards/train/sums.npz").units if name != shard
    ]


@pytest.mark.mpi
def test_three_ranks_give_the_bits_of_one(runs, tmp_path):
    path, like = f"data.path={runs / 'all.npz'}", f"data.like={runs / 'first'}"
    weighted = ["loss.class_weights=balanced", "loss.label_smoothing=0.1"]
    trainings = [
        Training(str(tmp_path / "all"), [*BY_SITE, path, like], source=str(runs / "all"), profile="series"),
        Training(str(tmp_path / "shards"), [*SETTINGS, path, *weighted], source=str(runs / "shards"), profile="series"),
    ]
    train_together(3, trainings)
    assert weights(ended(tmp_path / "all") / "train/model.pt") == weights(runs / "all/train/model.pt")
    assert (tmp_path / "all/train/sums.npz").read_bytes() == (runs / "all/train/sums.npz").read_bytes()
    single = replace(trainings[1], out=str(tmp_path / "single"))
    train_together(0, [single])
    assert weights(ended(tmp_path / "shards") / "train/model.pt") == weights(tmp_path / "single/train/model.pt")


@pytest.mark.mpi
def test_an_update_on_three_ranks_gives_the_bits_of_one(runs, tmp_path):
    more = tmp_path / "more.pt"
    done = run_ranks(3, rcdp("update", str(runs / "first"), str(runs / "third.npz"), "--to", str(more)))
    assert done.returncode == 0, done.stdout
    assert "solved from the sums of 3 units" in done.stdout
    assert weights(more) == weights(runs / "all/train/model.pt")


def test_new_rows_may_be_of_one_class_and_shorter(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    first, new = joined(samples(0), samples(1)), samples(2)
    new = {name: values[new["y"] == "b"] for name, values in new.items()}
    first["lengths"] = np.where(np.arange(len(first["y"])) % 2, 9, 7)
    new["lengths"] = np.where(np.arange(len(new["y"])) % 2, 6, 5)
    np.savez(tmp_path / "first.npz", **first)
    np.savez(tmp_path / "new.npz", **{**new, "x": new["x"][:, :6]})
    np.savez(tmp_path / "all.npz", **joined(first, new))
    train(tmp_path / "first", tmp_path / "first.npz")
    train(tmp_path / "all", tmp_path / "all.npz", f"data.like={tmp_path / 'first'}")
    update_model(tmp_path / "first", tmp_path / "new.npz", tmp_path / "more.pt", SingleProcess())
    assert weights(tmp_path / "more.pt") == weights(tmp_path / "all/train/model.pt")
