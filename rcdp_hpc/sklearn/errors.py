"""Errors of the estimator: those of the package that are also a `ValueError`, as scikit-learn expects of bad input."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rcdp_hpc.errors import CandidateError, InputError


class InvalidInputError(InputError, ValueError):
    """A parameter of the estimator, the samples or the labels cannot be used."""


@contextmanager
def input_errors_as_value_errors() -> Iterator[None]:
    """Raise the `InputError` of a block as an `InvalidInputError`, with the same message."""
    try:
        yield
    except InvalidInputError:
        raise
    except (InputError, CandidateError) as error:
        raised = InvalidInputError(str(error))
        raised.agreed = error.agreed
        raise raised from error
