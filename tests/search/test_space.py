from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search.fake_fitness import cheap_config

from rcdp_hpc.config import DIMENSION_KEYS, RangeSection, SpaceSection, known_keys
from rcdp_hpc.errors import InputError
from rcdp_hpc.search.space import READOUT_DIMENSIONS, Space, owner_of, with_values


def space_of(evaluation: str = "train", **ranges: dict) -> Space:
    return Space.from_config(SpaceSection(**ranges), evaluation)


def test_dimensions_have_the_order_of_the_section():
    space = space_of(leak={"low": 0.1, "high": 1}, density={"low": 0.1, "high": 0.2})
    assert space.names == ("density", "leak")


def test_logarithmic_and_integer_dimensions():
    space = space_of(learning_rate={"low": 1e-4, "high": 1e-2, "log": True}, hidden={"low": 8, "high": 64, "log": True})
    np.testing.assert_allclose(space.lower, [-4, np.log10(7.5)])
    np.testing.assert_allclose(space.upper, [-2, np.log10(64.5)])
    assert space.decode([-3, np.log10(16.5)]) == {"learning_rate": pytest.approx(1e-3), "hidden": 17}
    assert isinstance(space.decode([-3, 1.5])["hidden"], int)
    assert space.decode([-99, 99]) == {"learning_rate": 1e-4, "hidden": 64}


@given(st.floats(1e-6, 10), st.floats(1e-6, 100), st.booleans(), st.booleans(), st.floats(0, 1), st.floats(-1e3, 1e3))
@settings(max_examples=200, deadline=None)
def test_decoded_values_stay_within_the_bounds(low, width, log, integer, share, outside):
    # input_scaling accepts any value in (0, 100]
    bounds = {"low": low, "high": min(low + width, 100.0), "log": log, "integer": integer}
    try:
        space = space_of(input_scaling=bounds)
    except InputError:
        # fewer than two integers between the bounds, or a lower bound of 0
        assert integer
        return
    inside = float(space.lower[0] + share * (space.upper[0] - space.lower[0]))
    for position in (inside, outside):
        value = space.decode([position])["input_scaling"]
        assert RangeSection(**bounds).low <= value <= bounds["high"]
        assert isinstance(value, int) == integer
    if not integer:
        expected = 10**inside if log else inside
        assert space.decode([inside])["input_scaling"] == pytest.approx(expected)


def test_an_empty_space_is_refused():
    with pytest.raises(InputError, match=r"search\.space is empty"):
        space_of()


def test_every_dimension_sets_a_key():
    assert list(DIMENSION_KEYS) == list(SpaceSection.model_fields)
    assert {key for name, key in DIMENSION_KEYS.items() if name != "state_set"} <= set(known_keys())
    assert len(set(DIMENSION_KEYS.values())) == len(DIMENSION_KEYS)


def valid_range(name: str) -> dict:
    """Return two choices that the key of a dimension accepts."""
    choices = {"activation": ["tanh", "relu"], "state_set": ["values/spread", "values/long"]}
    choices["readout_activation"] = choices["activation"]
    return {"choices": choices.get(name) or ([8, 16] if is_integer(name) else [0.1, 0.5])}


def is_integer(name: str) -> bool:
    owner = owner_of(name)
    return owner.type.model_fields[owner.key].annotation is int


def test_the_dimensions_of_the_readout():
    expected = "learning_rate relu_slope hidden weight_decay readout_layers readout_activation outputs dropout batch"
    expected += " elm_penalty"
    assert list(READOUT_DIMENSIONS) == expected.split()


@pytest.mark.parametrize("name", READOUT_DIMENSIONS)
def test_readout_dimensions_need_a_trained_readout(name):
    ranges = {name: valid_range(name)}
    space_of("train", **ranges)
    with pytest.raises(InputError, match=rf"search.space.{name}.*search.evaluation"):
        space_of("ridge", **ranges)


@pytest.mark.parametrize("name", DIMENSION_KEYS)
def test_every_choice_decodes_to_itself_and_is_set_in_its_key(name):
    space = space_of(**{name: valid_range(name)})
    for coordinate, choice in enumerate(space.dimensions[0].choices):
        values = space.decode([coordinate])
        assert values == {name: choice}
        assert type(values[name]) is type(choice)
        if name != "state_set":
            config, owner = with_values(cheap_config(), values), owner_of(name)
            assert getattr(getattr(config, owner.section), owner.key) == choice
            assert space.start(config) == [coordinate]


INTEGERS = [name for name in DIMENSION_KEYS if name != "state_set" and is_integer(name)]


@given(st.sampled_from(INTEGERS), st.integers(1, 50), st.integers(1, 50), st.booleans(), st.data())
@settings(max_examples=100, deadline=None)
def test_every_integer_is_decoded_from_its_coordinate(name, low, width, log, data):
    space = space_of(**{name: {"low": low, "high": low + width, "log": log}})
    value = data.draw(st.integers(low, low + width))
    coordinate = np.log10(value) if log else value
    assert space.decode([coordinate]) == {name: value}
    config = with_values(cheap_config(), {name: value})
    start = space.start(config)
    assert start == pytest.approx([coordinate])
    assert space.decode(start) == {name: value}
    assert type(space.decode(start)[name]) is int


@pytest.mark.parametrize("bounds", [{"low": 1, "high": 3}, {"choices": [1, 2, 3]}])
def test_integers_have_equal_shares(bounds):
    space = space_of(readout_layers=bounds)
    coordinates = np.linspace(space.lower[0], space.upper[0], 3001)[:, None]
    found = [space.named(row)["readout_layers"] for row in space.decode_rows(coordinates)]
    assert [found.count(value) for value in (1, 2, 3)] == pytest.approx([1000] * 3, abs=1)
    log = space_of(nodes={"low": 1, "high": 3, "log": True})
    assert [log.decode([np.log10(edge)])["nodes"] for edge in (0.5, 1.49, 1.51, 2.49, 2.51, 3.5)] == [1, 1, 2, 2, 3, 3]


def test_a_layer_of_the_reservoir_is_not_one_of_the_readout():
    config = with_values(cheap_config(), {"layers": 3, "readout_layers": 2, "activation": "relu", "batch": 16})
    assert (config.reservoir.layers, config.readout.layers) == (3, 2)
    assert (config.reservoir.activation, config.readout.activation) == ("relu", "relu")
    assert config.training.batch == 16
    assert with_values(config, {"readout_activation": "tanh"}).reservoir.activation == "relu"


def test_an_unknown_dimension_of_a_candidate_is_refused():
    with pytest.raises(InputError, match="width of a candidate is not a dimension"):
        with_values(cheap_config(), {"width": 3})


@pytest.mark.parametrize(
    ("name", "low", "high", "side"),
    [
        ("density", 0.1, 1.5, "high = 1.5"),
        ("density", 0.0, 0.5, "low = 0"),
        ("leak", 0.5, 2, "high = 2"),
        ("relu_slope", 0, 1, "high = 1"),
        ("hidden", 0, 8, "low = 0"),
        ("nodes", 100, 200_000, "high = 200000"),
        ("layers", 0, 3, "low = 0"),
        ("dropout", 0, 1, "high = 1"),
        ("states", 1, 2000, "high = 2000"),
        ("readout_activation", 0, 1, "low = 0"),
    ],
)
def test_bounds_that_the_key_does_not_accept_are_refused(name, low, high, side):
    with pytest.raises(InputError, match=rf"search.space.{name}: {side}"):
        space_of(**{name: {"low": low, "high": high}})


def test_too_few_integers():
    with pytest.raises(InputError, match="fewer than two integers"):
        space_of(hidden={"low": 7.2, "high": 8.9})


def test_values_are_set_in_their_sections():
    config = with_values(cheap_config(), {"density": 0.3, "hidden": 7})
    assert (config.reservoir.density, config.readout.hidden) == (0.3, 7)
