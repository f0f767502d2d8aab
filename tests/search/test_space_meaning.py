"""Dimensions of a search space without an effect under other settings are refused."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import InputError

BOUNDS = {"low": 0.1, "high": 0.5}
INTEGERS = ("hidden", "outputs", "readout_layers", "nodes", "layers", "states", "batch")
SPACES = {
    **{name: {"low": 2, "high": 16} for name in INTEGERS},
    "readout_activation": {"choices": ["relu", "tanh"]},
}
OWN = "my_networks:Readout"
READOUTS = ("lstm", "gru", "transformer", "convolution", "my_networks:Readout")


def searching(name: str, evaluation: str = "ridge", **sections: dict) -> Config:
    bounds = SPACES.get(name, BOUNDS)
    search = {"evaluation": evaluation, "function": "mine:judge" * (evaluation == "function"), "space": {name: bounds}}
    return parse_config({"search": search, **sections}, "(of a test)")


def reservoir(**settings: object) -> dict:
    return {"reservoir": settings}


def readout(name: str) -> dict:
    return {"readout": {"kind": name}, "reservoir": {"reduction": ["all"]}}


CONTRADICTIONS = [
    ("spectral_radius", "ridge", reservoir(scaling="weight_scale")),
    ("weight_scale", "ridge", reservoir()),
    *[("density", "ridge", reservoir(topology=topology)) for topology in ("ring", "cycle-jumps")],
    *[
        (name, "ridge", reservoir(matrices="own.npz"))
        for name in ("density", "spectral_radius", "input_scaling", "bias_scaling")
    ],
    ("weight_scale", "ridge", reservoir(matrices="own.npz", scaling="weight_scale")),
    *[("relu_slope", "train", readout(name)) for name in READOUTS],
    *[(name, "train", readout(OWN)) for name in ("hidden", "outputs", "readout_layers", "dropout")],
    *[("readout_activation", "train", readout(name)) for name in READOUTS],
    ("relu_slope", "train", {"readout": {"activation": "tanh"}}),
    *[(name, "ridge", reservoir(matrices="own.npz")) for name in ("nodes", "layers")],
    ("states", "ridge", reservoir(reduction=["mean"])),
    ("states", "ridge", reservoir(reduction=["all"])),
    ("states", "ridge", reservoir(steps=[3, 5])),
    ("outputs", "train", readout("transformer")),
    ("batch", "train", {"training": {"global_batch": 64}}),
]


@pytest.mark.parametrize(("name", "evaluation", "sections"), CONTRADICTIONS)
def test_a_dimension_without_effect_is_refused(name, evaluation, sections):
    with pytest.raises(InputError, match=rf"search\.space\.{name} needs "):
        searching(name, evaluation, **sections)


@pytest.mark.parametrize(
    ("name", "evaluation", "sections"),
    [
        ("density", "ridge", reservoir(topology="small-world")),
        ("leak", "ridge", reservoir(matrices="own.npz")),
        ("weight_scale", "ridge", reservoir(scaling="weight_scale")),
        ("relu_slope", "train", {}),
        *[("hidden", "train", readout(name)) for name in READOUTS[:-1]],
        ("learning_rate", "train", readout("my_networks:Readout")),
        ("density", "function", reservoir(topology="ring")),
        ("relu_slope", "function", readout("lstm")),
        *[(name, "train", readout("lstm")) for name in ("outputs", "readout_layers", "dropout", "batch")],
        *[(name, "train", {}) for name in ("outputs", "readout_layers", "dropout", "batch", "readout_activation")],
        *[(name, "ridge", {}) for name in ("nodes", "layers", "states")],
        ("states", "ridge", reservoir(reduction=["mean", "states"])),
        ("outputs", "train", {**readout("transformer"), "readout": {"kind": "transformer", "heads": 1}}),
    ],
)
def test_a_dimension_with_an_effect_is_accepted(name, evaluation, sections):
    assert getattr(searching(name, evaluation, **sections).search.space, name) is not None


def test_choices_of_outputs_that_are_multiples_of_the_heads_are_accepted():
    tree = {**readout("transformer"), "search": {"evaluation": "train", "space": {"outputs": {"choices": [8, 16]}}}}
    assert parse_config(tree, "(of a test)").search.space.outputs.choices == [8, 16]
    tree["search"]["space"]["outputs"] = {"choices": [8, 10]}
    with pytest.raises(InputError, match=r"multiples of readout\.heads"):
        parse_config(tree, "(of a test)")


def test_a_slope_has_an_effect_if_the_relu_is_a_choice():
    space = {"relu_slope": BOUNDS, "readout_activation": {"choices": ["tanh", "relu"]}}
    tree = {"search": {"evaluation": "train", "space": space}, "readout": {"activation": "tanh"}}
    assert parse_config(tree, "(of a test)").search.space.relu_slope is not None
    space["readout_activation"] = {"choices": ["tanh", "sigmoid"]}
    with pytest.raises(InputError, match=r"relu_slope needs readout\.activation = 'relu'"):
        parse_config(tree, "(of a test)")
