"""Dimensions of a search space without an effect under other settings are refused."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.errors import InputError

BOUNDS = {"low": 0.1, "high": 0.5}
READOUTS = ("lstm", "gru", "transformer", "convolution", "my_networks:Readout")


def searching(name: str, evaluation: str = "ridge", **sections: dict) -> Config:
    bounds = BOUNDS if name != "hidden" else {"low": 8, "high": 16}
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
    ("hidden", "train", readout("my_networks:Readout")),
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
    ],
)
def test_a_dimension_with_an_effect_is_accepted(name, evaluation, sections):
    assert getattr(searching(name, evaluation, **sections).search.space, name) is not None
