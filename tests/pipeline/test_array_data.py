"""Arrays as the data of a run: the stages continue it, other arrays are refused, rank 0 alone needs them."""

from __future__ import annotations

import json
import logging

import numpy as np
import pytest
from launch import python, run_ranks

import rcdp_hpc
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.array_data import labelled_arrays
from rcdp_hpc.pipeline.stages import run_stages

Y = np.arange(60) % 3
X = np.random.default_rng(0).normal(Y[:, None], 0.3, (60, 4))
SETTINGS = {"reservoir": {"nodes": 20}, "data": {"shards": 1}}


def index_of(out):
    return json.loads((out / "shards" / "index.json").read_text())


def test_a_run_on_arrays_is_that_on_their_file_and_is_recorded_as_arrays(tmp_path):
    np.savez(tmp_path / "xy.npz", x=X, y=Y)
    given = rcdp_hpc.run(SETTINGS, tmp_path / "arrays", data=(X, Y))
    settings = {**SETTINGS, "data": {"shards": 1, "source": "npz", "path": tmp_path / "xy.npz"}}
    file = rcdp_hpc.run(settings, tmp_path / "file")
    for result in (given, file):
        result["evaluate"]["trees"].pop("seconds")
    assert given == file
    arrays, npz = index_of(tmp_path / "arrays"), index_of(tmp_path / "file")
    assert arrays["source"]["sha256"] == npz["source"]["sha256"]
    assert arrays["source"]["name"] == "arrays"
    assert arrays["source"]["description"] == "arrays: 60 samples of shape (4,) and type float64"
    assert arrays["settings"]["data"]["source"] == "arrays"
    assert arrays["kind"] == "table"
    assert [one["sha256"] for one in arrays["splits"]["train"]["shards"]] == [
        one["sha256"] for one in npz["splits"]["train"]["shards"]
    ]
    labels = rcdp_hpc.predict(tmp_path / "arrays", X).labels
    np.testing.assert_array_equal(labels, rcdp_hpc.predict(tmp_path / "file", tmp_path / "xy.npz").labels)
    assert np.mean(labels == Y.astype(str)) > 0.9


def test_the_same_arrays_continue_a_run_and_others_are_refused(tmp_path, caplog):
    out = tmp_path / "run"
    assert rcdp_hpc.prepare(SETTINGS, out, data=(X, Y), test=(X[:6], Y[:6]))["test"] == 6
    with caplog.at_level(logging.INFO, "rcdp_hpc"):
        rcdp_hpc.prepare(SETTINGS, out, data=[X.tolist(), Y.astype(object)], test={"x": X[:6], "y": Y[:6]})
    assert "already prepared" in caplog.text
    for other in (
        (X + 1, Y),
        (X, Y[::-1]),
        (X[1:], Y[1:]),
        (X.astype(np.float32), Y),
        (X, [*Y.astype(str).tolist()[:-1], "3"]),
    ):
        with pytest.raises(InputError, match="shards of other data than the arrays given now"):
            rcdp_hpc.prepare(SETTINGS, out, data=other, test=(X[:6], Y[:6]))
    with pytest.raises(InputError, match="shards of other data"):
        rcdp_hpc.prepare(SETTINGS, out, data=(X, Y))
    assert rcdp_hpc.prepare(SETTINGS, out, restart=True, data=(X + 1, Y))["test"] == 12


def test_the_other_stages_need_no_arrays(tmp_path):
    out = tmp_path / "run"
    rcdp_hpc.prepare(SETTINGS, out, data=(X, Y))
    rcdp_hpc.train(SETTINGS, out)
    first = rcdp_hpc.evaluate(SETTINGS, out)
    # The settings of the run directory, as `rcdp run --out` reads them.
    again = rcdp_hpc.run(rcdp_hpc.load_config(out / "config.toml"), out)
    assert again["evaluate"]["confusion"] == first["confusion"]
    assert rcdp_hpc.load_config(out / "config.toml").data.source == "arrays"
    with pytest.raises(InputError, match="were in the memory of a Python program"):
        rcdp_hpc.prepare(SETTINGS, out, restart=True)
    with pytest.raises(InputError, match=r"data.source \(arrays -> npz\)"):
        rcdp_hpc.prepare({"data": {"source": "npz", "path": "x.npz", "shards": 1}}, out)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("digits", None),
        ({"data": {"source": "arrays"}}, None),
        ({"data": {"source": "csv"}}, "the configuration names data.source = 'csv'"),
        ({"data": {"source": "arrays", "path": "x"}}, "the configuration names data.path"),
        ({"data": {"path": "x.npz"}}, "the configuration names data.path = 'x.npz'"),
        (rcdp_hpc.load_config("digits"), "the configuration names data.source = 'digits'"),
        ({"data": {"test_path": "x.npz"}}, "data.test_path"),
        ({"training": {"epoch": 3}}, "training.epoch"),
    ],
)
def test_the_configuration_may_not_name_other_data(config, message, tmp_path):
    if message is None:
        assert rcdp_hpc.prepare(config, tmp_path / "run", data=(X, Y))["test"] == 12
        return
    with pytest.raises(InputError, match=message):
        rcdp_hpc.prepare(config, tmp_path / "run", data=(X, Y))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (X, "data: a ndarray; expected data="),
        ((X,), "data: 1 values; expected"),
        ({"x": X}, "data: key y is missing"),
        ({"x": X, "y": Y, "x_test": X}, "data: unknown key 'x_test'"),
        ("xy.npz", "data: a str; expected"),
    ],
)
def test_data_is_a_pair_or_a_dict(data, message):
    with pytest.raises(InputError, match=message):
        labelled_arrays(data)
    with pytest.raises(InputError, match="needs data="):
        labelled_arrays(None, (X, Y))


def test_cross_validation_of_arrays(tmp_path):
    settings = {**SETTINGS, "data": {"folds": 2, "shards": 1}}
    summary = rcdp_hpc.crossvalidate(settings, tmp_path / "cv", data=(X, Y))
    assert sum(one["samples"] for one in summary["results"]) == 60
    assert summary["mean"]["accuracy"] > 0.8


RANKS = """
import sys
import numpy as np
import rcdp_hpc
from rcdp_hpc.errors import InputError

out = sys.argv[1]
comm = rcdp_hpc.connect()
numbers = np.random.default_rng(0)
y = np.arange(60) % 3
data = (numbers.normal(y[:, None], 0.3, (60, 4)), y)
own = data if comm.is_root else None
settings = {"reservoir": {"nodes": 20}, "data": {"shards": 2}}
from mpi4py import MPI
result = rcdp_hpc.run(settings, out + "/run", MPI.COMM_WORLD, data=own)
every = comm.allgather(result["evaluate"]["correct"])
settings["data"]["folds"] = 2
summary = rcdp_hpc.crossvalidate(settings, out + "/cv", comm, data=own)
total = comm.allgather(sum(one["samples"] for one in summary["results"]))
try:
    rcdp_hpc.run(settings, out + "/other", comm, data=None if comm.is_root else data)
except InputError as error:
    refused = str(error)
refused = comm.allgather(refused)
if comm.is_root:
    print("RESULT", every, total, refused, result["train"]["ranks"])
"""


@pytest.mark.mpi
def test_only_rank_0_needs_the_arrays(tmp_path):
    done = run_ranks(2, [*python(RANKS), str(tmp_path)], 150)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT"))
    alone = run_stages(["prepare", "train", "evaluate"], SETTINGS, tmp_path / "alone", data=(X, Y))
    correct = alone["evaluate"]["correct"]
    refused = "rank 1 passes data, rank 0 does not: rank 0 prepares the shards."
    assert line == f"RESULT {[correct] * 2} [60, 60] {[refused] * 2} 2"


def test_groups_of_arrays_are_settings_that_others_fit(tmp_path):
    data = {"x": X, "y": Y, "groups": np.arange(60) // 4}
    first = rcdp_hpc.run(SETTINGS, tmp_path / "run", data=data)
    assert rcdp_hpc.run(SETTINGS, tmp_path / "run")["evaluate"]["confusion"] == first["evaluate"]["confusion"]
    assert index_of(tmp_path / "run")["settings"]["data"]["group_name"] == "groups"
    assert rcdp_hpc.verify(tmp_path / "run").groups == 15
    left_out = {**SETTINGS, "readout": {"ridge_selection": "left_out"}}
    with pytest.raises(InputError, match=r"the data have groups, and readout\.ridge_selection = 'left_out' needs no"):
        rcdp_hpc.run(left_out, tmp_path / "other", data=data)
    with pytest.raises(InputError, match=r"arrays: data\.group_name = 'site', and data has no groups"):
        rcdp_hpc.prepare({"data": {"source": "arrays", "group_name": "site"}}, tmp_path / "none", data=(X, Y))
