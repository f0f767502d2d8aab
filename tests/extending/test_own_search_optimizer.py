"""An optimiser of the user's own: searched with, stopped and resumed, and refused if it breaks its contract."""

from __future__ import annotations

import re
import sys

import pytest
from launch import REPOSITORY
from search.fake_fitness import CheapFitness, FunctionOfValues, cheap_config
from search.outcome import outcome

from rcdp_hpc.config import load_config
from rcdp_hpc.errors import InputError, StoppedError
from rcdp_hpc.pipeline.stages import run_stages
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search

NAME = "my_optimizers:DifferentialEvolution"
BROKEN = """
import numpy as np
from my_optimizers import DifferentialEvolution
from rcdp_hpc.search.optimizers import Optimizer, PopulationOptimizer

class NoOptimizer:
    pass

def function():
    pass

class Incomplete(Optimizer):
    def ask(self):
        return self.first_positions()

class NoMove(PopulationOptimizer):
    pass

class Constructor(DifferentialEvolution):
    def __init__(self, lower, upper):
        pass

class Raises(DifferentialEvolution):
    def next_positions(self, costs):
        return self.missing

class Exits(DifferentialEvolution):
    def next_positions(self, costs):
        raise SystemExit(0)

class AsList(DifferentialEvolution):
    def ask(self):
        return self.positions.tolist()

class Single(DifferentialEvolution):
    def ask(self):
        return self.positions.astype(np.float32)

class Few(DifferentialEvolution):
    def ask(self):
        return self.positions[1:].copy()

class Outside(DifferentialEvolution):
    def ask(self):
        return self.positions + 100

class NotANumber(DifferentialEvolution):
    def ask(self):
        return np.where(self.positions > self.positions.min(), self.positions, np.nan)

class Unseeded(DifferentialEvolution):
    def random_numbers(self, generation, *shape):
        return np.random.default_rng().random(shape)

class Changing(DifferentialEvolution):
    def ask(self):
        self.positions = np.clip(0.9 * self.positions, self.lower, self.upper)
        return self.positions.copy()

class Stays(DifferentialEvolution):
    def tell(self, costs):
        pass

class NoCost(DifferentialEvolution):
    def best(self):
        return self.best_position

class StateOfLists(DifferentialEvolution):
    def state(self):
        return {"positions": self.positions.tolist()}

class StateOfObjects(DifferentialEvolution):
    def state(self):
        return {**super().state(), "note": np.array(["text"])}

class NoState(DifferentialEvolution):
    def state(self):
        return [1]

class Forgets(DifferentialEvolution):
    further_state = ()

class NoGeneration(DifferentialEvolution):
    def restore(self, state):
        self.positions = state["positions"]

class CannotRestore(DifferentialEvolution):
    def restore(self, state):
        raise NotImplementedError

class Later(DifferentialEvolution):
    def next_positions(self, costs):
        return np.full_like(self.positions, np.nan) if self.generation == 3 else super().next_positions(costs)
"""


@pytest.fixture(autouse=True)
def modules(tmp_path, monkeypatch):
    """The module of docs/extending.md and broken ones, importable in this test only."""
    page = (REPOSITORY / "docs/extending.md").read_text()
    (tmp_path / "my_optimizers.py").write_text(re.search(r"```python\n(# my_optimizers.py.*?)```", page, re.DOTALL)[1])
    (tmp_path / "broken_optimizers.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    for name in ("my_optimizers", "broken_optimizers"):
        sys.modules.pop(name, None)


def search(folder, optimizer=NAME, fitness=None, **settings):
    config = cheap_config(optimizer=optimizer, **settings)
    return run_search(config, SingleProcess(), fitness or CheapFitness(config), folder)


def test_a_run_searches_with_it(tmp_path):
    settings = [
        f"search.optimizer={NAME}", "search.population=3", "search.generations=2", "search.train_rows=100",
        "search.validation_rows=50", "reservoir.nodes=20", "reservoir.kernel=dense-fp32", "data.shards=1",
        "run.progress=false",
    ]  # fmt: skip
    result = run_stages(("prepare", "search"), load_config("digits", settings), tmp_path / "run")
    lines = read_sealed_lines(tmp_path / "run/search/history.jsonl")
    assert len(lines) == 6
    assert result["search"]["fitness"] == max(line["fitness"] for line in lines)


def test_it_beats_its_first_generation_and_a_stopped_search_ends_equal(tmp_path):
    search(tmp_path / "whole", generations=12)
    fitness = CheapFitness(cheap_config())

    def stopping(values):
        if fitness.calls == 30:
            signals._received.append(10)
        return fitness(values)

    with pytest.raises(StoppedError):
        search(tmp_path / "stopped", fitness=FunctionOfValues(stopping), generations=12)
    signals.clear()
    best = search(tmp_path / "stopped", generations=12)
    assert outcome(tmp_path / "stopped") == outcome(tmp_path / "whole")
    lines = read_sealed_lines(tmp_path / "whole/history.jsonl")
    assert best.fitness > max(line["fitness"] or 0 for line in lines[:7])


def test_a_search_does_not_continue_with_an_edited_module(tmp_path):
    search(tmp_path / "run", generations=2)
    module = tmp_path / "my_optimizers.py"
    module.write_text(module.read_text().replace("0.9", "0.8"))
    sys.modules.pop("my_optimizers")
    with pytest.raises(InputError, match=r"made with other settings: code\.my_optimizers"):
        search(tmp_path / "run", generations=2)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("NoOptimizer", "is not a subclass of rcdp_hpc.search.optimizers.Optimizer"),
        ("function", "is not a subclass of rcdp_hpc.search.optimizers.Optimizer"),
        ("Absent", "module broken_optimizers has no class Absent"),
        ("Incomplete", "the class does not define best, initialise, restore, state, tell"),
        ("NoMove", "the class does not define next_positions"),
        ("Constructor", "its constructor raised TypeError"),
        ("Raises", r"tell raised AttributeError: .*missing.* \(.*broken_optimizers.py, line \d+\)"),
        ("Exits", "tell raised SystemExit"),
        ("AsList", r"ask returned a list; expected a float64 array of shape \(7, 3\)"),
        ("Single", r"ask returned an array of shape \(7, 3\) and type float32"),
        ("Few", r"ask returned an array of shape \(6, 3\)"),
        ("Outside", r"ask returned 100\.\d+ in generation 1 \(candidate 0, dimension 0\); expected positions within"),
        ("NotANumber", "ask returned nan"),
        ("Unseeded", "two optimisers with the same parameters gave different positions"),
        ("Changing", "two calls of ask in one generation gave different positions"),
        ("Stays", "generation is 1 after tell; expected 2"),
        ("NoCost", "best returned array"),
        ("StateOfLists", "state returned a list as 'positions'; expected a dict of arrays of numbers"),
        ("StateOfObjects", r"state returned an array of shape \(1,\) and type <U4 as 'note'"),
        ("NoState", "state returned a list"),
        ("Forgets", "an optimiser and one restored from its state, one generation later, gave different positions"),
        ("NoGeneration", "generation is 1 after restore; expected 2"),
        ("CannotRestore", "restore raised NotImplementedError"),
    ],
)
def test_a_broken_class_is_refused_before_anything_is_evaluated(tmp_path, name, message):
    fitness = CheapFitness(cheap_config())
    with pytest.raises(InputError, match=rf"search\.optimizer = 'broken_optimizers:{name}'.*{message}"):
        search(tmp_path / "run", f"broken_optimizers:{name}", fitness)
    assert fitness.calls == 0
    assert not (tmp_path / "run").exists()


def test_positions_are_checked_in_every_generation(tmp_path):
    with pytest.raises(InputError, match="ask returned nan in generation 3"):
        search(tmp_path / "run", "broken_optimizers:Later")


def test_preparation_refuses_a_broken_class(tmp_path):
    config = load_config("digits", ["search.optimizer=broken_optimizers:Unseeded", "search.generations=2"])
    with pytest.raises(InputError, match="gave different positions"):
        run_stages(("prepare",), config, tmp_path / "run")
    assert not list((tmp_path / "run").rglob("*.h5"))
