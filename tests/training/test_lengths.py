from types import SimpleNamespace

import numpy as np
import pytest
import torch

from rcdp_hpc.errors import InputError
from rcdp_hpc.training.lengths import states_of


class Old:
    """A reservoir that knows no lengths."""

    settings = SimpleNamespace(sequence="rows")

    def states(self, u, out=None):
        return torch.zeros(len(u), 1)


class New(Old):
    def states(self, u, out=None, lengths=None):
        return torch.as_tensor(lengths)[:, None]


def test_whole_samples_need_no_lengths():
    assert states_of(Old(), np.zeros((3, 2, 1)), None).shape == (3, 1)


def test_lengths_are_handed_on():
    assert states_of(New(), np.zeros((2, 5, 1)), np.array([3, 5])).ravel().tolist() == [3, 5]


def test_padding_never_drives_a_reservoir_that_knows_no_lengths():
    with pytest.raises(InputError, match="driven by their padding"):
        states_of(Old(), np.zeros((2, 5, 1)), np.array([3, 5]))


def test_steps_must_be_those_of_the_sequence():
    reservoir = New()
    reservoir.settings = SimpleNamespace(sequence="columns")
    with pytest.raises(InputError, match="'columns' does not follow the steps"):
        states_of(reservoir, np.zeros((2, 5, 1)), np.array([3, 5]))
