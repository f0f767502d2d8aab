"""The searched methods of a comparison: settings, refusals, and whole cells on small data."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from launch import REPOSITORY, run_ranks
from method_cells import cell, method, prepared, series, settings, table, without_times

from rcdp_hpc.comparison.methods import minirocket, pipeline_method
from rcdp_hpc.comparison.methods.base import Budget, Outcome
from rcdp_hpc.comparison.methods.pipeline_method import PipelineMethod
from rcdp_hpc.config import Config, DataFacts, load_config, to_tree, with_kind_defaults
from rcdp_hpc.config.apply_defaults import with_settings
from rcdp_hpc.config.choices import METHODS, method_choice
from rcdp_hpc.errors import StoppedError
from rcdp_hpc.runtime import signals

FACTS = {
    "images": DataFacts("images", (8, 8)),
    "series": DataFacts("series", (20, 2)),
    "table": DataFacts("table", (8,)),
}
SEARCHED = [name for name in METHODS.names if method_choice(name).searches]
RIVALS = [name for name in SEARCHED if not name.startswith("mfo")]
DIGITS = {"source": "digits", "max_samples": 500}


def kind_settings(kind: str, **sections) -> Config:
    source = {"images": "digits"}.get(kind, "npz")
    path = {} if kind == "images" else {"path": "data.npz"}
    return settings({"source": source, "kind": kind, **path}, **sections)


def complete(name: str, kind: str, **sections) -> Config:
    found = method(name)
    assert isinstance(found, PipelineMethod)
    return found.within(kind_settings(kind, **sections), FACTS[kind], Budget(5, 3))


def bounds(config: Config) -> dict[str, tuple[float | None, float | None]]:
    space = config.search.space.model_dump(exclude_none=True)
    return {name: (one.get("low"), one.get("high")) for name, one in space.items()}


@pytest.mark.parametrize("kind", FACTS)
@pytest.mark.parametrize("name", METHODS.names)
def test_methods_take_the_kinds_of_their_line_and_refuse_the_others(name, kind, monkeypatch):
    monkeypatch.setattr(minirocket, "find_spec", lambda module: module)
    problem = method(name).problem(kind_settings(kind), FACTS[kind])
    assert (problem is None) == (kind in method_choice(name).kinds), problem


@pytest.mark.parametrize("name", SEARCHED)
def test_settings_keep_the_data_and_take_the_candidates(name):
    kind = method_choice(name).kinds[-1]
    config = complete(name, kind, run={"seed": 7})
    base = with_kind_defaults(kind_settings(kind, run={"seed": 7}), FACTS[kind])
    assert to_tree(config)["data"] == to_tree(base)["data"]
    assert (config.run.seed, config.search.population, config.search.generations) == (7, 5, 3)
    assert (config.search.evaluation, config.search.fitness, config.search.method) == ("train", "eq5", "optimizer")
    assert not config.training.baseline
    # Nothing is measured or taken from the machine.
    assert config.training.threads == 1
    assert config.reservoir.kind == "none" or config.reservoir.kernel == "dense-fp32"


@pytest.mark.parametrize("name", RIVALS)
def test_rivals_have_no_reservoir_and_no_density_term(name):
    config = complete(name, "images", search={"density_weight": 0.5})
    assert config.reservoir.kind == "none"
    assert config.search.density_weight == 0


@pytest.mark.parametrize(("name", "optimizer"), [("woa-lstm", "woa"), ("pso-lstm", "pso")])
def test_the_space_of_the_lstm_rivals(name, optimizer):
    config = complete(name, "series")
    assert (config.search.optimizer, config.readout.kind) == (optimizer, "lstm")
    assert bounds(config) == {
        "hidden": (16, 256), "learning_rate": (1e-4, 1e-2), "dropout": (0, 0.5), "readout_layers": (1, 3)
    }  # fmt: skip
    assert config.search.space.learning_rate.log


def test_the_space_of_ga_has_the_structure():
    config = complete("ga", "table")
    assert (config.search.optimizer, config.readout.kind) == ("ga", "network")
    assert bounds(config) == {
        "hidden": (16, 256), "outputs": (16, 256), "learning_rate": (1e-4, 1e-2), "dropout": (0, 0.5),
        "readout_layers": (1, 3), "readout_activation": (None, None),
    }  # fmt: skip
    assert config.search.space.readout_activation.choices == ["relu", "tanh", "sigmoid"]


def test_the_papers_method_searches_reservoir_and_network():
    config = complete("mfo", "images", search={"density_weight": 0.5})
    assert (config.search.optimizer, config.search.density_weight) == ("mfo", 0.5)
    found = bounds(config)
    assert found["nodes"] == (125, 500)
    assert found["states"] == (1, 8)
    assert {"density", "spectral_radius", "layers", "hidden", "outputs", "readout_layers", "dropout"} <= set(found)
    # A dimension of the comparison keeps its bounds, and the method without a reservoir has only those of the network.
    own = complete("mfo", "images", search={"space": {"density": {"low": 0.2, "high": 0.3}}})
    assert bounds(own)["density"] == (0.2, 0.3)
    without = bounds(complete("no-reservoir", "images"))
    assert set(without) == {"learning_rate", "dropout", "relu_slope", "hidden", "outputs", "readout_layers"}
    assert all(found[name] == without[name] for name in without)


def test_the_reservoir_of_100_components_drives_128_units():
    config = complete("mfo-lstm", "series")
    assert (config.readout.kind, config.readout.outputs, config.readout.hidden) == ("lstm", 100, 128)
    assert config.reservoir.reduction == ["all"]


def test_wavelets_and_vultures_tune_a_deep_machine():
    config = complete("wpd-avoa-delm", "images")
    assert (config.extractor.kind, config.extractor.wavelet, config.extractor.levels) == ("wavelet_packets", "db4", 3)
    assert (config.search.optimizer, config.readout.kind) == ("avoa", "elm")
    assert bounds(config) == {"hidden": (16, 512), "readout_layers": (1, 3), "elm_penalty": (1e-3, 1e6)}
    # Short rows of a table have no packets; along the steps of series, there are some.
    problem = method("wpd-avoa-delm").problem(kind_settings("table"), DataFacts("table", (4,)))
    assert "'db4' has 8 taps" in problem
    assert "no wavelets of 1 value" in method("wpd-avoa-delm").problem(kind_settings("table"), DataFacts("table", (1,)))
    haar = kind_settings("table", extractor={"wavelet": "haar", "levels": 1})
    assert method("wpd-avoa-delm").problem(haar, DataFacts("table", (4,))) is None
    assert "leave the method out" in problem
    unequal = method("wpd-avoa-delm").problem(kind_settings("series"), DataFacts("series", (20, 1), 12))
    assert "these have 12 to 20 steps" in unequal


@pytest.mark.parametrize("name", [name for name in METHODS.names if name not in ("trees", "minirocket")])
def test_methods_read_images_as_they_are_whatever_the_profile_puts_in_front(name):
    config = load_config("paper-cifar10")
    facts = DataFacts("images", (32, 32, 3))
    found = method(name)
    assert found.problem(config, facts) is None
    if isinstance(found, PipelineMethod):
        own = found.within(config, facts, Budget(5, 3))
        assert own.extractor.kind == ("wavelet_packets" if name == "wpd-avoa-delm" else "none")
        assert own.loss.kind == ("cross_entropy" if name in ("wpd-avoa-delm", "ridge") else config.loss.kind)


def test_a_settings_contradiction_is_the_reason_of_a_refusal():
    config = kind_settings("images", reservoir={"sequence": "windows", "piece_size": [3]})
    assert "reservoir.piece_edge" in str(method("woa-lstm").problem(config, FACTS["images"]))


@pytest.mark.parametrize("name", ["woa-lstm", "pso-lstm", "mfo-lstm"])
def test_an_lstm_takes_no_row_of_a_table(name):
    problem = method(name).problem(kind_settings("table"), FACTS["table"])
    assert "the row of a table is a single step" in problem
    assert problem.count(".") <= 1 + problem.count("reservoir.sequence")
    cut = kind_settings("table", reservoir={"sequence": "windows", "piece_size": [2]})
    assert method(name).problem(cut, FACTS["table"]) is None


@pytest.fixture(scope="module")
def waves(tmp_path_factory):
    """Sines of random phase, whose classes no linear classifier of the values can tell apart."""
    folder = tmp_path_factory.mktemp("waves")
    small = {"population": 2, "epochs": 4}
    config = settings(series(folder, 120, 12), training={"epochs": 25, "batch": 16}, search=small)
    shards = prepared(config, folder / "run")
    floor = method("logistic").run(cell(config, shards, folder / "floor"))
    return config, shards, floor.test["macro_f1"]


@pytest.fixture(scope="module")
def board(tmp_path_factory):
    """A table of two classes that no line divides."""
    folder = tmp_path_factory.mktemp("board")
    config = settings(table(folder), training={"epochs": 40}, search={"population": 3, "epochs": 6})
    shards = prepared(config, folder / "run")
    floor = method("ridge").run(cell(config, shards, folder / "floor"))
    return config, shards, floor.test["macro_f1"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """All digits."""
    folder = tmp_path_factory.mktemp("digits")
    config = settings({"source": "digits"}, search={"train_rows": 1000})
    shards = prepared(config, folder / "run")
    # Ridge regression reaches 0.92. With the margin of the test, the machine must reach 0.95.
    return config, shards, 0.8


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("woa-lstm", "waves"), ("pso-lstm", "waves"), ("mfo-lstm", "waves"),
        ("mfo", "board"), ("no-reservoir", "board"), ("ga", "board"), ("wpd-avoa-delm", "digits"),
    ],
)  # fmt: skip
def test_methods_learn_what_a_floor_cannot(name, data, tmp_path, request):
    config, shards, floor = request.getfixturevalue(data)
    outcome = method(name).run(cell(config, shards, tmp_path / "run"))
    assert outcome.test["macro_f1"] > max(0.75, floor + 0.15), outcome
    assert config.search.population <= outcome.evaluations <= 2 * config.search.population
    assert set(outcome.chosen) >= set(bounds(complete(name, "series")))
    assert outcome.parameters > 500
    assert outcome.timing.keys() == {"search", "train", "evaluate"}
    assert Outcome.from_json(json.loads(json.dumps(outcome.as_json()))) == outcome


@pytest.mark.parametrize("name", SEARCHED)
def test_equal_seeds_give_equal_outcomes(name, waves, tmp_path):
    config, shards, _ = waves
    tiny = with_settings(config, {"training.epochs": 2, "search.epochs": 1, "search.generations": 1}, "of the test")
    first, second = (method(name).run(cell(tiny, shards, tmp_path / run)) for run in "ab")
    assert without_times(first) == without_times(second)


@pytest.mark.parametrize("stage", ["search", "train"])
def test_a_stopped_cell_is_resumed_to_the_same_outcome(stage, board, tmp_path, monkeypatch):
    config, shards, _ = board
    tiny = with_settings(config, {"training.epochs": 4, "search.epochs": 1}, "of the test")
    whole = method("ga").run(cell(tiny, shards, tmp_path / "whole"))
    real = pipeline_method.run_with_options

    def stopped(stages, *arguments):
        if stage in stages:
            signals._received.append(10)
        return real(stages, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(pipeline_method, "run_with_options", stopped)
        with pytest.raises(StoppedError):
            method("ga").run(cell(tiny, shards, tmp_path / "cut"))
    signals.clear()
    assert without_times(method("ga").run(cell(tiny, shards, tmp_path / "cut"))) == without_times(whole)


def test_seconds_end_the_search_and_the_training(board, tmp_path):
    config, shards, _ = board
    short = cell(config, shards, tmp_path / "run")
    short = replace(short, budget=Budget(4, 50, seconds=0.01))
    outcome = method("ga").run(short)
    assert outcome.evaluations <= 4  # the first generation alone
    recorded = short.run.config()
    assert recorded.search.stop_seconds == 0.005
    assert recorded.training.stop_seconds == pipeline_method.LEAST_TRAINING
    assert outcome.test["samples"] > 0


TOGETHER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from method_cells import cell, method, settings, without_times
import rcdp_hpc
folder = Path(sys.argv[1])
config = settings({"source": "digits", "max_samples": 300}, training={"epochs": 1, "global_batch": 32})
comm = rcdp_hpc.connect()
for name in ("ga", "logistic"):
    outcome = without_times(method(name).run(cell(config, folder / "shards", folder / name, comm)))
    assert comm.allgather(outcome) == [outcome] * comm.size
    if comm.is_root:
        print(name, outcome["test"]["accuracy"], outcome["chosen"], flush=True)
comm.barrier()
"""


@pytest.mark.mpi
def test_ranks_work_on_a_cell_together(tmp_path):
    config = settings({"source": "digits", "max_samples": 300})
    shards = prepared(config, tmp_path)
    for name in ("ga", "logistic"):
        cell(config, shards, tmp_path / name)  # with its own copy of the shards
    tests = str(Path(__file__).parents[1])
    done = run_ranks(2, [sys.executable, "-c", TOGETHER, str(tmp_path), tests], timeout=150)
    assert done.returncode == 0, done.stdout
    alone = method("logistic").run(cell(config, shards, tmp_path / "alone"))
    assert f"logistic {alone.test['accuracy']} {alone.chosen}" in done.stdout


def test_the_page_lists_the_methods():
    page = (REPOSITORY / "docs/compare-methods.md").read_text()
    rows = []
    for name in METHODS.names:
        choice = method_choice(name)
        kinds = ", ".join(choice.kinds)
        extra = f" {choice.extra}" if choice.extra else ""
        rows.append(f"| `{name}` | {choice.meaning} | {choice.source} | {kinds} |{extra} |")
    assert "\n".join(rows) in page
    files = {METHODS[name].target.rpartition(":")[0].rpartition(".")[2] for name in METHODS.names}
    shared = {"__init__", "base", "floor", "lstm", "pipeline_method", "settings"}
    assert {path.stem for path in (REPOSITORY / "rcdp_hpc/comparison/methods").glob("*.py")} == files | shared
