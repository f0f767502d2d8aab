"""The global random number generators are as before after a stage that seeds them."""

from __future__ import annotations

import random

import numpy as np
import torch

from rcdp_hpc.runtime.random_state import unchanged_random_state


def numbers() -> list[float]:
    return [random.random(), float(np.random.random()), float(torch.rand(1))]


def test_generators_continue_as_if_nothing_happened():
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    expected = [numbers(), numbers()]
    random.seed(1)
    np.random.seed(1)
    torch.manual_seed(1)
    first = numbers()
    try:
        with unchanged_random_state():
            numbers()
            torch.manual_seed(7)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert [first, numbers()] == expected
