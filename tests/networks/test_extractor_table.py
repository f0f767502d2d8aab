"""The table of extractors: the facts in each line are those of its class."""

from __future__ import annotations

import pytest
import torch
from settings import config_of

from rcdp_hpc.config.choices import EXTRACTORS
from rcdp_hpc.networks.extractors import MapExtractor, extractor_of
from rcdp_hpc.networks.learned_source import learned_of

SHAPE = (16, 12)
CPU = torch.device("cpu")


def configured(choice, reservoir: str):
    return config_of(
        extractor__kind=choice.name, extractor__model_kind="convolution", extractor__model_shape=list(SHAPE),
        extractor__channels=[4], extractor__atoms=8, extractor__kernels=420, extractor__components=5,
        reservoir__kind=reservoir, reservoir__nodes=20, reservoir__kernel="dense-fp32", reservoir__sequence="rows",
        reservoir__states=2, search__generations=0,
    )  # fmt: skip


@pytest.mark.parametrize("reservoir", ["random", "none"])
@pytest.mark.parametrize("choice", EXTRACTORS.choices, ids=lambda choice: choice.name)
def test_facts_and_shapes_of_the_table(choice, reservoir):
    extractor = extractor_of(configured(choice, reservoir), SHAPE)
    source = extractor.source(CPU)
    assert (extractor.learned_part() is not None) == bool(learned_of(source)) == choice.learned
    assert (extractor.trained_part() is not None) == choice.trained
    assert isinstance(extractor, MapExtractor) == choice.makes_sequences
    assert bool(extractor.joined_features) == choice.joins_features
    assert extractor.checked_shape(None) == extractor.sequence_shape()
    if choice.trained:
        assert source.width == 16 * 12
    else:
        assert source.feature_shape == extractor.feature_shape()


@pytest.mark.parametrize("choice", EXTRACTORS.choices, ids=lambda choice: choice.name)
def test_features_without_a_reservoir_keep_the_bound_of_the_class(choice):
    extractor = extractor_of(configured(choice, "none"), SHAPE)
    if extractor.bound is not None:
        features = extractor.source(CPU).drive(torch.randn(5, *SHAPE).mul_(100).numpy())
        assert float(features.abs().max()) <= extractor.bound
