"""Sequences of unequal length from a .ts file to predictions: padding counts for nothing on the whole way."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from launch import REPOSITORY, rcdp, run_ranks
from whole_runs import series_file

from rcdp_hpc.cli import main

REAL = Path(os.environ.get("RCDP_TEST_DATA", REPOSITORY.parent / "shared/data")) / "japanese-vowels"
SETTINGS = [
    "data.source=ts", "data.validation_fraction=0.25", "data.verify_on_read=false", "data.shards=2",
    "reservoir.nodes=30", "reservoir.kernel=dense-fp32", "reservoir.reduction=mean_std", "reservoir.bidirectional=true",
    "reservoir.leak=0.6", "reservoir.noise=0.01", "search.population=3", "search.generations=2", "search.folds=2",
    "search.space.density={low=0.05,high=0.5}", "training.epochs=12", "optimizer.learning_rate=0.01",
    "readout.hidden=8", "readout.outputs=8", "training.threads=1", "run.progress=false",
]  # fmt: skip


def spoil_padding(shards: Path) -> None:
    """Overwrite what lies beyond each sequence's length."""
    for path in shards.glob("*.h5"):
        with h5py.File(path, "r+") as file:
            x, lengths = file["x"][:], file["length"][:]
            beyond = np.arange(x.shape[1]) >= lengths[:, None]
            assert not x[beyond].any()
            x[beyond] = 1e6
            file["x"][:] = x


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("waves")
    series_file(folder / "Waves_TRAIN.ts", 100, 1)
    series_file(folder / "Waves_TEST.ts", 30, 2)
    (folder / "waves.toml").write_text("")
    flags = [part for value in (*SETTINGS, f"data.path={folder}") for part in ("--set", value)]
    assert main(["prepare", str(folder / "waves.toml"), "--out", str(folder / "run"), *flags]) == 0
    return folder


WINDOWS = [
    "extractor.kind=none",
    "reservoir.sequence=windows",
    "reservoir.piece_size=[3]",
    "reservoir.piece_stride=[2]",
]


READ = [
    "reservoir.series_scaling=standard", "reservoir.differences=true", "reservoir.input_normalised=true",
    "reservoir.leak_low=0.1", "reservoir.reduction=segments, std, last", "reservoir.segments=3",
]  # fmt: skip


@pytest.mark.parametrize(
    ("readout", "cut"), [("network", []), ("ridge", [*WINDOWS, "reservoir.piece_edge=drop"]), ("ridge", READ)]
)
def test_other_bytes_in_the_padding_change_nothing(prepared, tmp_path, readout, cut):
    settings = [part for value in (*cut, f"readout.kind={readout}") for part in ("--set", value)]
    outcomes = []
    for name in ("as-written", "spoiled"):
        run = Path(shutil.copytree(prepared / "run", tmp_path / name))
        if name == "spoiled":
            spoil_padding(run / "shards")
        for stage in ("search", "train", "evaluate"):
            assert main([stage, "--out", str(run), *settings]) == 0
        outcomes.append((history(run), json.loads((run / "report/summary.json").read_text())["test"]))
    assert outcomes[0] == outcomes[1]
    assert outcomes[0][1]["samples"] == 30
    assert all(line["reason"] is None for line in outcomes[0][0])


@pytest.mark.parametrize("source", ["reservoir.reduction=all", "reservoir.kind=none"])
def test_a_recurrent_readout_sees_nothing_of_the_padding(prepared, tmp_path, source):
    changes = (
        source,
        "extractor.kind=none",
        "search.generations=0",
        "readout.kind=gru",
        "training.epochs=4",
    )
    flags = [part for value in changes for part in ("--set", value)]
    curves = []
    for name in ("as-written", "spoiled"):
        run = Path(shutil.copytree(prepared / "run", tmp_path / name))
        if name == "spoiled":
            spoil_padding(run / "shards")
        for stage in ("train", "evaluate"):
            assert main([stage, "--out", str(run), *flags]) == 0
        lines = [json.loads(line) for line in (run / "train/metrics.jsonl").read_text().splitlines()]
        summary = json.loads((run / "report/summary.json").read_text())["test"]
        curves.append(([line["validation_loss"] for line in lines], summary["confusion"]))
    assert curves[0] == curves[1]


def history(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "search/history.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def test_prediction_is_the_evaluations_even_where_a_file_has_shorter_series(prepared, tmp_path):
    run = Path(shutil.copytree(prepared / "run", tmp_path / "run"))
    for stage in ("train", "evaluate"):
        assert main([stage, "--out", str(run), "--set", "search.generations=0"]) == 0
    summary = json.loads((run / "report/summary.json").read_text())["test"]
    lines = (prepared / "Waves_TEST.ts").read_text().splitlines()
    series = [line for line in lines if not line.startswith("@")]
    # Files of one series each are padded otherwise than the file of all of them.
    found = []
    for number, line in enumerate(series[:4]):
        one = tmp_path / f"{number}.ts"
        one.write_text("\n".join([*lines[:5], line]) + "\n")
        found.append(predicted(run, one, tmp_path / f"{number}.npz")["probability"][0])
    whole = predicted(run, prepared / "Waves_TEST.ts", tmp_path / "all.npz")
    np.testing.assert_allclose(found, whole["probability"][:4], atol=1e-5)
    labels = np.array([line.rsplit(":", 1)[1] for line in series])
    assert (whole["name"] == labels).sum() == summary["correct"]


def test_a_series_longer_than_those_of_training_is_predicted(prepared, tmp_path):
    run = Path(shutil.copytree(prepared / "run", tmp_path / "run"))
    assert main(["train", "--out", str(run), "--set", "search.generations=0"]) == 0
    lines = (prepared / "Waves_TEST.ts").read_text().splitlines()
    header, longer = lines[:5], ":".join([",".join(["0.5"] * 40)] * 2) + ":low"
    (tmp_path / "longer.ts").write_text("\n".join([*header, longer]) + "\n")
    (tmp_path / "both.ts").write_text("\n".join([*header, lines[5], longer]) + "\n")
    alone = predicted(run, tmp_path / "longer.ts", tmp_path / "longer.npz")["probability"]
    both = predicted(run, tmp_path / "both.ts", tmp_path / "both.npz")["probability"]
    np.testing.assert_allclose(both[1], alone[0], atol=1e-5)
    whole = predicted(run, prepared / "Waves_TEST.ts", tmp_path / "all.npz")["probability"]
    np.testing.assert_allclose(both[0], whole[0], atol=1e-5)


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_test_series_too_short_for_what_is_kept_is_refused_at_the_start(prepared, tmp_path, capsys, stage):
    (tmp_path / "Short_TRAIN.ts").write_text((prepared / "Waves_TRAIN.ts").read_text())
    lines = (prepared / "Waves_TEST.ts").read_text().splitlines()
    (tmp_path / "Short_TEST.ts").write_text("\n".join([*lines, "0.1,0.2:0.3,0.4:low"]) + "\n")
    flags = [part for value in (*SETTINGS, f"data.path={tmp_path}") for part in ("--set", value)]
    run = str(tmp_path / "run")
    assert main(["prepare", str(prepared / "waves.toml"), "--out", run, *flags]) == 0
    kept = [part for value in ("reservoir.reduction=states", "reservoir.states=3") for part in ("--set", value)]
    generations = f"search.generations={1 if stage == 'search' else 0}"
    assert main([stage, "--out", run, "--set", generations, *kept]) == 2
    assert "reservoir.states = 3 is more than the 2 steps of a sample" in capsys.readouterr().err


@pytest.mark.mpi
def test_ranks_search_sequences_with_the_bits_of_one(prepared, tmp_path):
    found = []
    for ranks in (0, 2):
        run = Path(shutil.copytree(prepared / "run", tmp_path / str(ranks)))
        done = run_ranks(ranks, rcdp("search", "--out", str(run)), timeout=120)
        assert done.returncode == 0, done.stdout
        found.append(history(run))
    assert found[0] == found[1]


def test_the_vowels_profile_reads_any_series(prepared, tmp_path):
    run = tmp_path / "run"
    quick = [part for value in ("reservoir.nodes=100", "search.generations=1") for part in ("--set", value)]
    assert main(["run", "vowels", "--out", str(run), "--set", f"data.path={prepared}", *quick]) == 0
    assert json.loads((run / "report/summary.json").read_text())["test"]["accuracy"] > 0.9


@pytest.mark.skipif(not REAL.exists(), reason=f"the real Japanese Vowels are not at {REAL}")
def test_the_vowels_profile_is_as_good_as_the_documentation_says(tmp_path):
    quick = [part for value in (f"data.path={REAL}", "search.generations=0") for part in ("--set", value)]
    assert main(["run", "vowels", "--out", str(tmp_path / "run"), *quick]) == 0
    test = json.loads((tmp_path / "run/report/summary.json").read_text())["test"]
    assert (test["samples"], test["accuracy"] > 0.97) == (370, True)


def predicted(run: Path, samples: Path, output: Path) -> dict[str, np.ndarray]:
    assert main(["predict", str(run), str(samples), "--to", str(output)]) == 0
    return dict(np.load(output))
