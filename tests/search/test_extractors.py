"""The search evaluates what the training trains: candidates read the features of a fixed extractor."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from search.ranks import Ranks
from whole_runs import series_file

from rcdp_hpc.cli import main
from rcdp_hpc.config import Config, load_config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.model import checkpoint
from rcdp_hpc.networks.assembly import make_source
from rcdp_hpc.networks.learned_source import load_learned
from rcdp_hpc.pipeline.data_checks import SourceFacts, check_settings_fit
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.left_out import left_out
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.effective import evaluated_config
from rcdp_hpc.search.evaluation import extracted as extracted_module
from rcdp_hpc.search.evaluation.extracted import extracted
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.measured import error_and_accuracy
from rcdp_hpc.search.evaluation.rows import fitness_rows
from rcdp_hpc.search.space import with_values
from rcdp_hpc.training.solve.short_training import fit_readout

COMMON = [
    "data.max_samples=250", "reservoir.nodes=20", "reservoir.states=2", "reservoir.sequence=rows",
    "reservoir.input_scaling=0.2", "search.population=3", "search.generations=2", "search.epochs=2", "search.threads=1",
    "training.epochs=2", "training.threads=1", "readout.outputs=10", "readout.hidden=12", "run.progress=false",
]  # fmt: skip
DICTIONARY = ["extractor.kind=dictionary", "extractor.patch=3", "extractor.atoms=6", "extractor.pool=3",
              "extractor.patches=2000"]  # fmt: skip
WAVELETS = ["extractor.kind=wavelet_packets", "extractor.wavelet=haar", "extractor.levels=2"]
READOUT = ["reservoir.kind=none", "search.evaluation=train", "search.space.hidden={low=4, high=12}"]


def source_of(config: Config, run: Path):
    """Return the source of the training, with what it learned."""
    shards = ShardReader(run / "shards")
    source = make_source(config, shards.sample_shape, torch.device("cpu"))
    file = run / "train" / "dictionary.pt"
    if file.exists():
        load_learned(source, checkpoint.load(file)["dictionary"])
    return source, shards


@pytest.mark.parametrize("extractor", [DICTIONARY, WAVELETS], ids=["dictionary", "wavelet_packets"])
@pytest.mark.parametrize("readout", [[], READOUT], ids=["reservoir", "none"])
def test_fitness_is_that_of_the_source_of_the_training(extractor, readout, tmp_path, caplog):
    config = load_config("digits", [*COMMON, *extractor, *readout])
    with caplog.at_level("INFO", logger="rcdp_hpc"), limit_threads(1):
        run_stages(["prepare", "search"], config, tmp_path)
        best = read_best(tmp_path)
        before = (tmp_path / "train/dictionary.pt").read_bytes() if extractor is DICTIONARY else b""
        run_stages(["train"], config, tmp_path)
    assert f"extractor.kind = '{config.extractor.kind}': candidates read its features" in caplog.text
    if before:  # the training reads the dictionary that the search has learned
        assert caplog.text.count("dictionary of 6 atoms learned") == 1
        assert (tmp_path / "train/dictionary.pt").read_bytes() == before

    settings = with_values(config, best["values"])
    source, shards = source_of(settings, tmp_path)
    train, val = (shards.read(split, 0, shards.rows(split)) for split in ("train", "validation"))
    if readout:
        probabilities = fit_readout(
            source.drive(train.x), source.feature_shape, torch.tensor(train.y, dtype=torch.int64), source.drive(val.x),
            config=settings, classes=10, epochs=2, seed=config.run.seed,
            validation_labels=torch.tensor(val.y, dtype=torch.int64),
        )  # fmt: skip
        error, accuracy = error_and_accuracy(probabilities, val.y)
    else:
        real = ~train.synthetic.astype(bool)
        states, labels = source.drive(np.concatenate([train.x[real], val.x])), np.concatenate([train.y[real], val.y])
        assert states.shape == (len(labels), 40)
        # Left-out rows count as often as rows of their class in the training split.
        counts = np.bincount(np.concatenate([train.y, val.y])) / np.bincount(labels)
        solution = left_out(states, labels, 10, config.readout.ridge_penalties, counts[labels])
        error, accuracy = error_and_accuracy(solution.scores, labels)
    assert error == pytest.approx(best["error"], rel=1e-4)
    assert accuracy == pytest.approx(best["accuracy"], abs=0.01)


def read_best(run: Path) -> dict:
    lines = read_sealed_lines(run / "search/history.jsonl", growing=True)
    return max((line for line in lines if line["reason"] is None), key=lambda line: line["fitness"])


def prepared(tmp_path: Path, *settings: str) -> tuple[Config, RunDirectory, ShardReader]:
    config = load_config("digits", [*COMMON, *settings])
    run_stages(["prepare"], config, tmp_path)
    return config, RunDirectory(tmp_path), ShardReader(tmp_path / "shards")


@pytest.mark.parametrize("evaluation", [["search.evaluation=ridge"], READOUT], ids=["reservoir", "none"])
def test_folds_read_features_computed_once(evaluation, tmp_path, monkeypatch):
    config, run, shards = prepared(tmp_path, *WAVELETS, "search.folds=3", *evaluation)
    features = extracted(config, SingleProcess(), run, shards, "cpu")
    rows = []
    drive = type(features.source).drive
    monkeypatch.setattr(
        type(features.source), "drive", lambda self, x, *other: rows.append(len(x)) or drive(self, x, *other)
    )
    raw, data = (fitness_rows(shards, config, SingleProcess(), one) for one in (None, features))
    synthetic = sum(int((fold.origin_train < 0).sum()) for fold in data.folds)
    assert sum(rows) == len(raw.x_train) + len(raw.x_val) + synthetic
    for plain, found in zip((raw, *raw.folds), (data, *data.folds), strict=True):
        for part in ("train", "val"):
            expected = drive(features.source, plain.samples(part)[0].copy()).reshape(-1, *features.shape)
            np.testing.assert_array_equal(found.samples(part)[0], expected)
    assert data.fingerprint() == raw.fingerprint()
    assert data.first(0.5).features == data.features

    settings = evaluated_config(config)
    values = {"hidden": 6} if "reservoir.kind=none" in evaluation else {"leak": 0.6}
    with limit_threads(1):
        alone = ReservoirFitness(settings, data)(values)
        group = Ranks(3).run(lambda comm: ReservoirFitness(settings, data).set_group(comm)(values))
    assert alone.reason is None
    assert [(one.error, one.accuracy) for one in group] == [(alone.error, alone.accuracy)] * 3


def test_readouts_of_bands_find_them_in_the_search(tmp_path):
    config, run, shards = prepared(tmp_path, *WAVELETS, *READOUT)
    data = fitness_rows(shards, config, SingleProcess(), extracted(config, SingleProcess(), run, shards, "cpu"))
    source = ReservoirFitness(evaluated_config(config), data).source(evaluated_config(config))
    trained, _ = source_of(config, tmp_path)
    assert source.feature_shape == trained.feature_shape
    assert source.feature_shape.bands == 4


def test_features_of_kernels_are_read_without_a_reservoir(tmp_path):
    """With a reservoir, the search evaluates its states only (tests/networks/test_kernels.py)."""
    path = series_file(tmp_path / "waves.ts", 90, 1)
    config = load_config("series", [
        f"data.path={path}", "data.source=ts", "data.validation_fraction=0.3", "extractor.kind=kernels",
        "extractor.kernels=336", "readout.kind=network", "search.generations=1", "search.population=2",
        "search.epochs=1", "search.threads=1", "run.progress=false", "training.batch=16", *READOUT,
    ])  # fmt: skip
    run_stages(["prepare", "search"], config, tmp_path / "run")
    assert read_best(tmp_path / "run")["reason"] is None
    assert (tmp_path / "run/train/kernels.pt").exists()
    run, shards = RunDirectory(tmp_path / "run"), ShardReader(tmp_path / "run/shards")
    config = run.config()
    features = extracted(config, SingleProcess(), run, shards, "cpu")
    data = fitness_rows(shards, config, SingleProcess(), features)
    assert data.lengths_train is None
    assert data.x_train.shape[1:] == (1, 336)
    source = ReservoirFitness(evaluated_config(config), data).source(evaluated_config(config))
    assert source.feature_shape == features.source.feature_shape
    assert not source.feature_shape.raw


CONVOLUTION = ["extractor.kind=convolution", "extractor.channels=[2]", "reservoir.kernel=auto"]


def test_with_a_trained_extractor_candidates_read_the_samples(tmp_path, caplog):
    config = load_config("digits", [*COMMON, *CONVOLUTION])
    plain = load_config("digits", [*COMMON, "extractor.kind=none", "reservoir.kernel=dense-fp32"])
    with caplog.at_level("INFO", logger="rcdp_hpc"):
        run_stages(["prepare", "search"], config, tmp_path / "trained")
    run_stages(["prepare", "search"], plain, tmp_path / "plain")
    assert "is trained with the readout, after the search: candidates read the samples" in caplog.text
    assert read_best(tmp_path / "trained")["values"] == read_best(tmp_path / "plain")["values"]
    assert read_best(tmp_path / "trained")["error"] == pytest.approx(read_best(tmp_path / "plain")["error"], rel=1e-5)


def test_a_reservoir_that_cannot_read_the_samples_is_refused_before_the_search():
    config = load_config("digits", [*COMMON, *CONVOLUTION, "extractor.sequence=positions", "reservoir.states=12"])
    facts = SourceFacts("digits", (8, 8), None, ["a", "b"], [30, 20], 50)
    message = r"because extractor.kind = 'convolution' is trained after it: reservoir.states = 12 is more than the 8"
    with pytest.raises(InputError, match=message):
        check_settings_fit(config, facts)


def test_a_search_is_not_resumed_with_another_extractor(tmp_path, capsys):
    config = load_config("digits", [*COMMON, *WAVELETS])
    run_stages(["prepare", "search"], config, tmp_path)
    for change in ("extractor.levels=1", "extractor.kind=none"):
        assert main(["search", "--out", str(tmp_path), "--set", change]) == 2
        assert f"{change.partition('=')[0]} (" in capsys.readouterr().err


def test_features_that_do_not_fit_into_memory_are_refused(tmp_path, monkeypatch):
    config, run, shards = prepared(tmp_path, *WAVELETS)
    features = extracted(config, SingleProcess(), run, shards, "cpu")
    monkeypatch.setattr(extracted_module, "machine_memory", lambda: 1000)
    with pytest.raises(InputError, match=r"need 1 MiB, .* set smaller search.train_rows"):
        fitness_rows(shards, config, SingleProcess(), features)
