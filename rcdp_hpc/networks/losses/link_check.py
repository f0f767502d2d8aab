"""The check that a loss's link from scores to probabilities keeps the contract of `Loss`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from rcdp_hpc.errors import InputError
from rcdp_hpc.networks.losses.base import Loss

# A check of a few rows: scores of either sign, of any size, exact, all negative, and nearly equal.
SIZES = (3.0, 1.0, 100.0, 0.01)
TOLERANCE = 1e-4


def check_link(name: str, loss: Loss, classes: int) -> None:
    """Check the link of a loss, and what it drives to the targets, on a few rows.

    Parameters
    ----------
    name : str
        ``loss.kind``, for messages.
    loss : Loss
    classes : int
        Number of classes.

    Raises
    ------
    InputError
        If the probabilities are not finite, are negative, do not sum to 1, have another shape or dtype than the scores,
        depend on other rows or on random numbers, or if another class than the one with the highest score has the
        highest probability.
    """
    scores = _example(classes)
    probabilities = _rows(name, "probabilities", loss.probabilities, scores)
    sums = probabilities.sum(1)
    if bool((probabilities < 0).any()) or bool(((sums - 1).abs() > TOLERANCE).any()):
        least, sums_shown = probabilities.min().item(), [round(value, 6) for value in sums.tolist()]
        raise broken(
            name,
            f"the probabilities of {len(scores)} rows of scores sum to {sums_shown}, the least is {least:g}; expected "
            "sums of 1 and nothing below 0",
        )
    for method, values in (
        ("probabilities", probabilities),
        ("driven", _rows(name, "driven", loss.driven, scores)),
    ):
        best = values.gather(1, scores.argmax(1, keepdim=True))[:, 0]
        if not torch.equal(best, values.amax(1)):
            raise broken(name, f"{method} gives another class than the one with the highest score the highest value")


def _example(classes: int) -> torch.Tensor:
    """Return scores of a few rows, float32, the same at each call."""
    row = torch.sin(torch.arange(classes, dtype=torch.float32) ** 2 + 1)
    return torch.stack([*(size * row for size in SIZES), row - 2, torch.eye(classes)[-1]])


def _rows(
    name: str, method: str, function: Callable[[torch.Tensor], torch.Tensor], scores: torch.Tensor
) -> torch.Tensor:
    """Return what a method gives for scores, after the checks that need no knowledge of its meaning."""
    generator = torch.get_rng_state()
    with torch.no_grad():
        values = _called(name, method, function, scores)
        again = _called(name, method, function, scores)
        single = torch.cat([_called(name, method, function, row[None]) for row in scores])
        _called(name, method, function, scores[:0])
        _called(name, method, function, scores.double())
    if not torch.equal(scores, _example(scores.shape[1])):
        raise broken(name, f"{method} changes its argument; expected a new tensor")
    if not bool(torch.isfinite(values).all()):
        raise broken(name, f"{method} gives values that are not finite for scores between -100 and 100")
    if not torch.equal(again, values) or not torch.equal(torch.get_rng_state(), generator):
        raise broken(name, f"{method} gives other values at the second call, or draws random numbers")
    if not torch.allclose(single, values, rtol=1e-4, atol=1e-6):
        raise broken(name, f"{method} of a row depends on the other rows; expected each row by itself")
    return values


def _called(
    name: str, method: str, function: Callable[[torch.Tensor], torch.Tensor], scores: torch.Tensor
) -> torch.Tensor:
    call = f"{method} called with scores of shape {tuple(scores.shape)}, {scores.dtype}"
    try:
        values = function(scores)
    except Exception as error:  # the user's function may raise any error
        raise broken(name, f"{call} failed ({type(error).__name__}: {error})") from None
    if not isinstance(values, torch.Tensor) or (values.shape, values.dtype) != (scores.shape, scores.dtype):
        found = type(values).__name__
        if isinstance(values, torch.Tensor):
            found = f"a tensor {tuple(values.shape)}, {values.dtype}"
        raise broken(name, f"{call} returned {found}; expected a tensor {tuple(scores.shape)}, {scores.dtype}")
    return values


def broken(name: str, problem: str) -> InputError:
    """Return the error about a loss that breaks its contract."""
    return InputError(f"loss.kind = {name!r}: {problem} (docs/extending.md)")
