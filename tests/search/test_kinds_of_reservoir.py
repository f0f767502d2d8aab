"""The search with another reservoir than a random one: without any, and of kind "diagonal"."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from search.group_search import small_data
from search.ranks import Ranks
from search.test_lengths import data_of, sequences

from rcdp_hpc.cli import main
from rcdp_hpc.config import Config, load_config, parse_config
from rcdp_hpc.data.shards.storage import Storage
from rcdp_hpc.errors import InputError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.search.checks import checked_space
from rcdp_hpc.search.density_term import has_density_term
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.effective import report_idle_dimensions, with_effective_space
from rcdp_hpc.search.evaluation.fitness import ReservoirFitness
from rcdp_hpc.search.evaluation.inner_folds import balanced_folds
from rcdp_hpc.search.evaluation.limits import estimated_bytes
from rcdp_hpc.search.evaluation.rows import FitnessData
from rcdp_hpc.training.solve.short_training import fit_readout

VALUES = {"hidden": 6, "learning_rate": 0.01}
READOUT = {"hidden": {"low": 4, "high": 12}, "learning_rate": {"low": 1e-3, "high": 1e-1, "log": True}}
RESERVOIR = {"density": {"low": 0.05, "high": 0.5}, "leak": {"low": 0.2, "high": 1.0}}


@pytest.fixture(autouse=True)
def _one_thread():
    with limit_threads(1):
        yield


def config_for(kind: str = "none", space: dict | None = None, **search: object) -> Config:
    tree = {
        "run": {"seed": 5, "progress": False},
        "reservoir": {"kind": kind, "nodes": 30, "states": 2, "memory_units": 8},
        "search": {"population": 4, "generations": 3, "epochs": 2, "evaluation": "train", "space": space or READOUT},
        "training": {"batch": 32},
        "readout": {"outputs": 8, "hidden": 8},
    }
    tree["search"] |= search
    return parse_config(tree, "(of a test)")


def right_aligned(x: np.ndarray, lengths: np.ndarray | None) -> torch.Tensor:
    """Return sequences as rows; shorter ones follow zeros."""
    rows = np.zeros_like(x)
    for row, own in enumerate(x):
        steps = x.shape[1] if lengths is None else lengths[row]
        rows[row, x.shape[1] - steps :] = own[:steps]
    return torch.from_numpy(rows.reshape(len(x), -1))


@pytest.mark.parametrize("data", [small_data(), data_of()], ids=["equal length", "unequal length"])
def test_without_a_reservoir_candidates_are_readouts_of_the_sequences(data):
    config = config_for()
    found = ReservoirFitness(config, data)(VALUES)
    settings = config.model_copy(
        update={
            "readout": config.readout.model_copy(update={"hidden": 6}),
            "optimizer": config.optimizer.model_copy(update={"learning_rate": 0.01}),
        }
    )
    steps, features = data.x_train.shape[1:]
    probabilities = fit_readout(
        right_aligned(data.x_train, data.lengths_train),
        FeatureShape(1, steps, features, raw=True),
        torch.tensor(data.y_train),
        right_aligned(data.x_val, data.lengths_val),
        config=settings,
        classes=data.classes,
        epochs=2,
        seed=5,
        validation_labels=torch.tensor(data.y_val),
    )
    assert found.reason is None
    assert found.accuracy == np.mean(probabilities.argmax(1) == data.y_val)
    assert found.accuracy > 0.5
    other = ReservoirFitness(config, data)({**VALUES, "hidden": 4})
    assert other.error != found.error


def with_folds(data: FitnessData, config: Config) -> FitnessData:
    parts = balanced_folds(
        data.x_train, data.y_train, tuple("abcd"[: data.classes]), config, Storage(), (), data.lengths_train
    )
    names = ("x_train", "y_train", "x_val", "y_val")
    others = ("lengths_train", "lengths_val", "synthetic", "origin_train", "origin_val")
    folds = tuple(
        FitnessData(
            *(part[name] for name in names), data.classes, (), **{name: part[name] for name in others if name in part}
        )
        for part in parts
    )
    return replace(data, folds=folds)


@pytest.mark.parametrize("kind", ["none", "diagonal"])
@pytest.mark.parametrize("kept", [{}, {"folds": 2}, {"halving": 2}])
def test_a_group_of_ranks_has_the_bits_of_one(kind, kept):
    config, data = config_for(kind, **kept), data_of()
    if "folds" in kept:
        data = with_folds(data, config)
    share = 0.5 if "halving" in kept else 1.0
    alone = ReservoirFitness(config, data).set_share(share)(VALUES)
    assert alone.reason is None
    together = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_share(share).set_group(comm)(VALUES))
    assert [(one.error, one.accuracy) for one in together] == [(alone.error, alone.accuracy)] * 3


@pytest.mark.parametrize("selection", ["left_out", "validation"])
def test_a_group_divides_the_rows_of_state_sets_without_a_reservoir(selection):
    """Sets that differ by the sequence have an effect on a ridge readout, too."""
    sets = {"state_set": {"choices": ["values/spread", "values-differences/spread"]}}
    config = config_for(space=sets, evaluation="ridge")
    config.readout.ridge_selection = selection
    config.reservoir.batch_rows = 16
    checked_space(config)
    data = data_of()
    alone = [ReservoirFitness(config, data)({"state_set": name}) for name in sets["state_set"]["choices"]]
    assert alone[0].error != alone[1].error
    group = Ranks(3).run(lambda comm: ReservoirFitness(config, data).set_group(comm)({"state_set": "values/spread"}))
    assert [one.error for one in group] == [alone[0].error] * 3


def test_the_search_does_not_depend_on_ranks_or_a_stop(tmp_path, monkeypatch):
    config, data = config_for(), data_of()
    run_search(config, SingleProcess(), ReservoirFitness(config, data), tmp_path / "one")

    def work(comm):
        # One group: the ranks are threads of one process, which has one state of torch's random numbers.
        together = config_for(group_ranks=3)
        return run_search(together, comm, ReservoirFitness(together, data), tmp_path / "three")

    results = Ranks(3).run(work)
    assert not any(isinstance(one, Exception) for one in results)

    calls = []
    measure = ReservoirFitness.measure

    def stopping(self, values):
        calls.append(values)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return measure(self, values)

    monkeypatch.setattr(ReservoirFitness, "measure", stopping)
    with pytest.raises(KeyboardInterrupt):
        run_search(config, SingleProcess(), ReservoirFitness(config, data), tmp_path / "killed")
    run_search(config, SingleProcess(), ReservoirFitness(config, data), tmp_path / "killed")
    first = history(tmp_path / "one")
    assert len(first) == 12
    assert first == history(tmp_path / "three") == history(tmp_path / "killed")


def history(folder) -> list[dict]:
    lines = read_sealed_lines(folder / "history.jsonl", growing=True)
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


@pytest.mark.parametrize(
    ("kind", "space", "left"),
    [
        ("none", {**RESERVOIR, **READOUT}, ["learning_rate", "hidden"]),
        ("diagonal", {**RESERVOIR, **READOUT}, ["leak", "learning_rate", "hidden"]),
        ("random", {**RESERVOIR, **READOUT}, ["density", "leak", "learning_rate", "hidden"]),
    ],
)
def test_dimensions_without_an_effect_are_left_out_and_reported(kind, space, left, caplog):
    config = config_for(kind, space)
    assert list(checked_space(config).names) == left
    with caplog.at_level("INFO"):
        report_idle_dimensions(config)
    assert ("candidates would not differ by density" in caplog.text) == (kind != "random")
    assert with_effective_space(with_effective_space(config)) == with_effective_space(config)


def test_a_function_of_the_user_may_use_every_dimension():
    config = config_for(space=RESERVOIR, evaluation="function", function="mine:judge")
    assert list(checked_space(config).names) == ["density", "leak"]


@pytest.mark.parametrize(
    ("kind", "space", "remedy"),
    [
        ("none", RESERVOIR, r"search.generations = 0 to skip the search, or search values of the readout"),
        ("diagonal", {"density": RESERVOIR["density"]}, r"search.generations = 0 .* as in search.space.input_scaling"),
        ("none", {"state_set": {"choices": ["values/spread", "values/long"]}}, r"differ by .* \(state_set\)"),
    ],
)
def test_a_search_of_nothing_is_refused(kind, space, remedy):
    with pytest.raises(InputError, match=rf"search.generations = 3 has nothing to search: .*{remedy}"):
        checked_space(config_for(kind, space))
    checked_space(config_for("random", space))


def test_the_density_has_no_part_in_the_fitness_without_connections():
    for kind in ("none", "diagonal"):
        assert not has_density_term(config_for(kind, density_weight=1000.0))
    assert has_density_term(config_for("random", density_weight=1000.0))


def test_a_candidate_without_a_reservoir_needs_memory_for_its_rows_only():
    shape, rows = (100, 20), 1000
    large = config_for()
    large.reservoir.nodes = 100_000
    assert estimated_bytes(large, shape, rows, 4) == estimated_bytes(config_for(), shape, rows, 4)
    twice = estimated_bytes(config_for(), (200, 20), rows, 4)
    assert twice == pytest.approx(2 * estimated_bytes(config_for(), shape, rows, 4), rel=0.1)
    diagonal = config_for("diagonal")
    diagonal.reservoir.nodes = 100_000
    assert estimated_bytes(diagonal, shape, rows, 4) > 8 * 100_000 * 17


DIGITS = [
    "data.max_samples=300", "reservoir.kind=none", "reservoir.sequence=rows", "search.population=3",
    "search.generations=2", "search.epochs=1", "search.threads=1", "training.epochs=2", "training.threads=1",
    "readout.outputs=10", "run.progress=false",
]  # fmt: skip


def test_the_winner_is_trained(tmp_path, caplog):
    space = ["search.evaluation=train", "search.space.hidden={low=4, high=30}"]
    with caplog.at_level("INFO"):
        result = run_stages(["prepare", "search", "train"], load_config("digits", [*DIGITS, *space]), tmp_path)
    assert set(result["search"]["values"]) == {"hidden"}
    assert "candidates would not differ by density, spectral_radius, input_scaling, leak" in caplog.text
    weights = torch.load(tmp_path / "train/last.pt", weights_only=True)["trainer"]["network"]
    assert weights["inner.weight"].shape == (result["search"]["values"]["hidden"], 10)
    assert json.loads((tmp_path / "state/search.json").read_text())["status"] == "done"


def test_a_profile_whose_space_has_no_effect_is_refused_before_anything_is_written(tmp_path, capsys):
    settings = [part for value in DIGITS for part in ("--set", value)]
    assert main(["run", "digits", "--out", str(tmp_path / "run"), *settings]) == 2
    assert "search.generations = 2 has nothing to search" in capsys.readouterr().err
    assert not (tmp_path / "run" / "shards").exists()


def test_lengths_are_those_of_whole_samples_without_a_reservoir():
    """Reductions and states say nothing about a readout of the sequences themselves."""
    x, y, lengths = sequences(60)
    config = config_for()
    config.reservoir.states = 50
    data = FitnessData(x, y, x, y, 3, (), lengths, lengths)
    assert ReservoirFitness(config, data)(VALUES).reason is None
