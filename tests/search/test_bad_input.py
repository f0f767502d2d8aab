"""Wrong settings, spaces and files of a search, and their messages."""

from __future__ import annotations

import numpy as np
import pytest
from search.fake_fitness import CheapFitness, FunctionOfValues, cheap_config

from rcdp_hpc.config import parse_config
from rcdp_hpc.errors import DataDamagedError, InputError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.space import searched_space


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"population": 1}, r"search\.population = 1: input should be greater than or equal to 2"),
        ({"optimizer": "gradient"}, r"search\.optimizer = 'gradient'.*mfo, woa"),
        ({"space": {"leak": {"low": 0.9, "high": 0.1}}}, r"low = 0\.9 must be below high = 0\.1"),
        ({"space": {"leak": {"low": 0.5, "high": 0.5}}}, r"low = 0\.5 must be below high = 0\.5"),
        ({"space": {"leak": {"low": 0.1}}}, "low and high are needed, or choices"),
        ({"space": {"leak": {"low": 0.1, "high": 0.9, "start": 1.0}}}, r"start = 1\.0 must lie between low = 0\.1"),
        ({"space": {"leak": {"low": 0.1, "high": 0.9, "start": "x"}}}, "start = 'x' must lie between"),
        ({"space": {"leak": {"choices": [0.5]}}}, "must be two or more different values"),
        ({"space": {"leak": {"choices": [0.5, 0.5]}}}, "must be two or more different values"),
        ({"space": {"leak": {"choices": [0.5, 0.6], "log": True}}}, "choices exclude low, high, log and integer"),
        ({"space": {"leak": {"choices": [0.5, 0.6], "start": 0.7}}}, r"start = 0\.7 is not among the choices"),
    ],
)
def test_wrong_settings_are_refused_at_load(settings, message):
    tree = {"search": {"space": {"density": {"low": 0.1, "high": 0.2}}, **settings}}
    with pytest.raises(InputError, match=message):
        parse_config(tree, "(of a test)")


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({}, "search.space is empty"),
        ({"activation": {"choices": ["tanh", "step"]}}, r"search.space.activation: a choice = 'step' is not accepted"),
        ({"hidden": {"choices": [8, 8.5]}}, r"search.space.hidden: 8.5 is not an integer"),
        ({"leak": {"choices": [0.5, 7]}}, r"search.space.leak: a choice = 7 is not accepted"),
        ({"weight_scale": {"low": 0.1, "high": 0.2}}, "needs reservoir.scaling"),
    ],
)
def test_wrong_spaces_are_refused(space, message):
    with pytest.raises(InputError, match=message):
        searched_space(cheap_config(space=space, evaluation="train").search)


def test_choices_and_start_are_decoded():
    config = cheap_config(
        evaluation="train",
        space={
            "density": {"low": 0.01, "high": 1.0, "log": True, "start": 0.1},
            "activation": {"choices": ["tanh", "sigmoid"], "start": "sigmoid"},
            "hidden": {"choices": [8, 16, 64]},
        },
    )
    space = searched_space(config.search)
    assert space.decode([-1, 1.49, -0.5]) == {"density": pytest.approx(0.1), "activation": "sigmoid", "hidden": 8}
    assert space.decode([-1, 0.49, 2.5]) == {"density": pytest.approx(0.1), "activation": "tanh", "hidden": 64}
    assert isinstance(space.decode([-1, 0, 1])["hidden"], int)
    assert space.start(config).tolist()[:2] == [-1, 1]


def test_a_search_starts_at_the_configured_values_within_the_bounds():
    space = {
        "density": {"low": 0.2, "high": 1.0, "log": True},
        "leak": {"low": 0.1, "high": 0.6},
        "spectral_radius": {"low": 0.1, "high": 2.0, "start": 1.5},
        "activation": {"choices": ["relu", "sigmoid", "tanh"]},
        "hidden": {"choices": [8, 16]},
    }
    config = cheap_config(evaluation="train", space=space)
    config.reservoir.density, config.reservoir.leak, config.reservoir.activation = 0.1, 0.3, "sigmoid"
    config.readout.hidden = 99
    start = searched_space(config.search).start(config)
    names = searched_space(config.search).names
    assert dict(zip(names, start.tolist(), strict=True)) == pytest.approx(
        {"density": np.log10(0.2), "leak": 0.3, "spectral_radius": 1.5, "activation": 1, "hidden": np.nan}, nan_ok=True
    )


def test_the_first_candidate_is_the_configured_reservoir(tmp_path):
    config = cheap_config()
    for name in searched_space(config.search).names:
        bounds = getattr(config.search.space, name)
        if bounds.choices is None:
            setattr(config.reservoir, name, 0.5 * (bounds.low + bounds.high))
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    first = read_sealed_lines(tmp_path / "history.jsonl")[0]["values"]
    assert first == pytest.approx({name: getattr(config.reservoir, name) for name in first})


def stopped(folder, **settings):
    config = cheap_config(**settings)
    fitness = CheapFitness(config)

    def stopping(values):
        if fitness.calls == 16:
            signals._received.append(10)
        return fitness(values)

    with pytest.raises(StoppedError):
        run_search(config, SingleProcess(), FunctionOfValues(stopping), folder)
    signals.clear()


def test_a_checkpoint_of_another_space_is_refused_with_both_values(tmp_path):
    stopped(tmp_path)
    space = {"density": {"low": 0.02, "high": 0.5}, "leak": {"low": 0.1, "high": 1.0}}
    with pytest.raises(InputError) as refused:
        run_search(cheap_config(space=space), SingleProcess(), CheapFitness(cheap_config()), tmp_path)
    assert "search.space.density.low (0.01 -> 0.02)" in str(refused.value)
    assert "search.space.input_scaling.high (10.0 -> not set)" in str(refused.value)


def test_a_checkpoint_of_another_optimiser_is_refused(tmp_path):
    stopped(tmp_path)
    with pytest.raises(InputError, match=r"search\.optimizer \(mfo -> pso\)"):
        run_search(cheap_config(optimizer="pso"), SingleProcess(), CheapFitness(cheap_config()), tmp_path)


def test_a_history_cut_short_in_its_last_line(tmp_path):
    config = cheap_config()
    # The last two checkpoints are those of the last two generations, so that the line is missing in one of them.
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    path = tmp_path / "history.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    with pytest.raises(DataDamagedError, match=r"line \d+ was cut short or altered"):
        read_sealed_lines(path)
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)  # resumes from the checkpoint before
    assert path.read_bytes()[: len(whole) // 2] == whole[: len(whole) // 2]
    assert len(read_sealed_lines(path)) == 42


def test_an_incomplete_line_after_the_checkpoint_is_removed(tmp_path):
    stopped(tmp_path)
    with (tmp_path / "history.jsonl").open("a") as file:
        file.write('{"generation": 3, "cand')
    config = cheap_config()
    run_search(config, SingleProcess(), CheapFitness(config), tmp_path)
    assert len(read_sealed_lines(tmp_path / "history.jsonl")) == 42


def test_improvements_are_combined(tmp_path):
    config = cheap_config(improvements=["opposition", "restart"])
    assert run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "mfo").evaluations > 0


@pytest.mark.parametrize("optimizer", ["woa", "avoa", "pso", "ga", "random", "sobol"])
def test_every_optimiser_stops_and_resumes_to_the_same_end(tmp_path, optimizer):
    config = cheap_config(optimizer=optimizer)
    straight = run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "straight")
    stopped(tmp_path / "stopped", optimizer=optimizer)
    resumed = run_search(config, SingleProcess(), CheapFitness(config), tmp_path / "stopped")
    assert (resumed.values, resumed.fitness) == (straight.values, straight.fitness)
    lines = [
        [{**line, "timing": None} for line in read_sealed_lines(tmp_path / name / "history.jsonl")]
        for name in ("straight", "stopped")
    ]
    assert lines[0] == lines[1]
