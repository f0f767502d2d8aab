"""All states as features, and the input itself without a reservoir."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.identity_source import IdentitySource, make_reservoir
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir

SETTINGS = {"nodes": 6, "density": 0.5, "kernel": "dense-fp32"}


def test_all_states_are_those_after_each_step(rng):
    u = rng.random((4, 5, 3), dtype=np.float32)
    whole = make_reservoir(ReservoirSection(**SETTINGS, reduction="all"), (5, 3))
    named = make_reservoir(ReservoirSection(**SETTINGS, steps=[0, 1, 2, 3, 4]), (5, 3))
    assert whole.feature_shape == FeatureShape(1, 5, 6)
    assert torch.equal(whole.drive(u), named.drive(u))


@pytest.mark.parametrize("bidirectional", [False, True])
def test_shorter_sequences_end_with_the_last_step(rng, bidirectional):
    settings = ReservoirSection(**SETTINGS, reduction="all", bidirectional=bidirectional)
    u = rng.random((3, 5, 3), dtype=np.float32)
    reservoir = make_reservoir(settings, (5, 3))
    result = reservoir.drive(u, [2, 5, 3]).view(3, reservoir.parts, 5, 6)
    for row, length in enumerate([2, 5, 3]):
        alone = make_reservoir(settings, (length, 3)).drive(u[row : row + 1, :length]).view(-1, length, 6)
        assert not result[row, :, : 5 - length].any()
        torch.testing.assert_close(result[row, :, 5 - length :], alone)
    smooth = DifferentiableReservoir(reservoir)(torch.from_numpy(u), [2, 5, 3])
    torch.testing.assert_close(smooth, result.flatten(1))


def test_keeping_all_states_needs_their_number():
    settings = ReservoirSection(**SETTINGS, reduction="all")
    with pytest.raises(InputError, match="give steps"):
        Reservoir(settings, 3)
    with pytest.raises(InputError, match="expected at most 4"):
        Reservoir(settings, 3, steps=4).states(np.zeros((1, 5, 3), np.float32))


def test_without_a_reservoir_the_features_are_the_input_sequence(rng):
    x = rng.random((2, 4, 3), dtype=np.float32)
    passed = make_reservoir(ReservoirSection(kind="none", sequence="columns"), (4, 3))
    assert isinstance(passed, IdentitySource)
    assert passed.feature_shape == FeatureShape(1, 3, 4, raw=True)
    np.testing.assert_array_equal(passed.drive(x).numpy(), x.swapaxes(1, 2).reshape(2, 12))
    out = torch.empty(2, 12)
    assert passed.drive(x, out=out) is out
    assert out.any()


def test_a_shorter_input_ends_with_its_last_step():
    x = np.arange(1, 13, dtype=np.float32).reshape(2, 3, 2)
    result = IdentitySource(ReservoirSection(kind="none"), Sequencer(), (3, 2)).drive(x, [1, 3])
    np.testing.assert_array_equal(result.numpy(), [[0, 0, 0, 0, 1, 2], [7, 8, 9, 10, 11, 12]])


def test_inputs_of_other_lengths_than_in_training():
    passed = IdentitySource(ReservoirSection(kind="none"), Sequencer(), (3, 1))
    np.testing.assert_array_equal(passed.drive(np.array([[[4.0], [5.0]]], np.float32)).numpy(), [[0, 4, 5]])
    with pytest.raises(InputError, match="4 steps: expected at most 3"):
        passed.drive(np.zeros((1, 4, 1), np.float32))
