"""The global random number generators of a process, which belong to the program that calls a stage."""

from __future__ import annotations

import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np


@contextmanager
def unchanged_random_state() -> Iterator[None]:
    """Restore the global generators of Python, NumPy and, if it is imported, torch after a block.

    The package has generators of its own, but seeds torch's for classes of the user's own.
    """
    torch = sys.modules.get("torch")
    cuda = torch.cuda if torch is not None and torch.cuda.is_initialized() else None
    python, numpy = random.getstate(), np.random.get_state()
    cpu = None if torch is None else torch.get_rng_state()
    gpu = None if cuda is None else cuda.get_rng_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        if torch is not None:
            torch.set_rng_state(cpu)
        if cuda is not None:
            cuda.set_rng_state(gpu)
