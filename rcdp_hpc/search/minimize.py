"""Minimisation of a function of the user, with the optimisers and the evaluator of the search."""

from __future__ import annotations

import hashlib
import logging
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rcdp_hpc.config import Config, parse_config
from rcdp_hpc.config.paths import absolute_path
from rcdp_hpc.errors import CandidateError, InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.comm.connect import communicator_of
from rcdp_hpc.runtime.digests import read_sealed_lines
from rcdp_hpc.search.box import Box, box_of
from rcdp_hpc.search.driver import run_search
from rcdp_hpc.search.evaluation.base import Fitness
from rcdp_hpc.search.evaluation.candidate import REASON_LENGTH, Evaluation
from rcdp_hpc.search.optimizers.contract import check_optimizer
from rcdp_hpc.search.space import Values

log = logging.getLogger(__name__)

Function = Callable[[dict[str, Any]], float]


@dataclass(frozen=True)
class Trial:
    """One candidate of `minimize`.

    Attributes
    ----------
    generation, candidate : int
        Generation from 1, index within it from 0.
    values : dict
        The values by name.
    value : float or None
        What the function returned; None if it failed.
    reason : str or None
        Why it failed; None if it did not.
    reused : bool
        Whether the same values were evaluated earlier, so that the function was not called again.
    """

    generation: int
    candidate: int
    values: Values
    value: float | None
    reason: str | None
    reused: bool


@dataclass(frozen=True)
class Minimum:
    """The result of `minimize`, equal on every rank and for any number of ranks.

    Attributes
    ----------
    values : dict
        The best values by name.
    value : float
        The least value of the function.
    evaluations : int
        Calls of the function, failed ones included.
    failed : int
        Calls that raised an exception or returned no finite number.
    history : tuple of Trial
        All candidates in order.
    """

    values: Values
    value: float
    evaluations: int
    failed: int
    history: tuple[Trial, ...]

    @property
    def fitness(self) -> float:
        """The number that the search maximises: minus the least value."""
        return -self.value


def minimize(
    function: Function,
    space: Mapping[str, Any],
    optimizer: str = "mfo",
    *,
    population: int = 50,
    generations: int = 100,
    seed: int = 0,
    comm: Any = None,
    out: str | Path | None = None,
    threads: int = 1,
    progress: bool = False,
) -> Minimum:
    """Search a box for the least value of a function, on one process or over all ranks of a job.

    Every rank evaluates a part of each generation. The result has the same bits for any number of ranks, if the
    function returns the same number for the same values on every rank. Values that occur again are not evaluated
    again.

    Parameters
    ----------
    function : callable
        Called as ``function(values)`` with a dict of values by name; returns a number. A call that raises an
        exception or returns NaN, an infinity or something else counts as failed, and the search continues.
    space : dict
        By name ``(low, high)``, ``(low, high, "log")``, ``(low, high, "integer")``, or a dict with ``low``, ``high``,
        ``log``, ``integer`` and ``start``, or with ``choices`` and ``start``. Both bounds are included. ``start`` is
        the value of the first candidate.
    optimizer : str
        As ``search.optimizer``: "mfo", "woa", "avoa", "pso", "ga", "random", "sobol", or your own as "module:Class".
    population : int
        Candidates per generation, at least 2.
    generations : int
        Generations, at least 1.
    seed : int
        Seed of all random numbers, at least 0.
    comm : Communicator or mpi4py.MPI.Intracomm, optional
        ``rcdp_hpc.connect()`` or a communicator of mpi4py, whose ranks all call this function with the same
        arguments. Default: this process alone.
    out : str or Path, optional
        Folder for history.jsonl, best.toml and checkpoints. A search of the same function and arguments that was
        stopped there continues; a finished one is returned. Default: no files are kept.
    threads : int
        Threads that NumPy, PyTorch and OpenMP may use in each call. More may change the last digits.
    progress : bool
        Show a progress line on rank 0.

    Returns
    -------
    Minimum
        On every rank.

    Raises
    ------
    InputError
        If an argument is not accepted, or `out` holds a search of other arguments; before the first call.
    StageFailedError
        If every call of the function failed.
    StoppedError
        If a signal asked to stop; only after `rcdp_hpc.runtime.signals.install`.

    Examples
    --------
    >>> from rcdp_hpc import minimize
    >>> result = minimize(lambda v: (v["x"] - 1) ** 2, {"x": (-5, 5)}, population=10, generations=20)
    >>> abs(result.values["x"] - 1) < 0.01
    True
    """
    settings = {"optimizer": optimizer, "population": population, "generations": generations, "threads": threads}
    with communicator_of(comm) as ranks:
        box, config = agree(ranks, lambda: _checked(function, space, settings, seed, progress))
        _refuse_other_arguments(ranks, config, box)
        with _folder(ranks, out) as folder:
            fingerprint = _fingerprint(box, _name(function))
            run_search(config, ranks, _FunctionValue(function), folder, fingerprint=fingerprint, space=box)
            return run_on_root(ranks, lambda: _result(folder / "history.jsonl"))


class _FunctionValue(Fitness):
    """Minus the value of a function; every failure of the function is one of its candidate."""

    def __init__(self, function: Function) -> None:
        self.function = function

    def __call__(self, values: Values) -> Evaluation:
        """Evaluate the candidate with these values."""
        started = time.perf_counter()
        try:
            value = _as_number(self.function(dict(values)))
        except (Exception, SystemExit) as failure:  # a rank that ends alone would keep the others waiting
            text = str(failure) if isinstance(failure, CandidateError) else f"{type(failure).__name__}: {failure}"
            reason = " ".join(text.split())[:REASON_LENGTH]
            return Evaluation(-np.inf, np.nan, np.nan, time.perf_counter() - started, reason)
        return Evaluation(-value, np.nan, np.nan, time.perf_counter() - started)


def _as_number(answer: Any) -> float:
    """Return the answer of the function as a float; raise a `CandidateError` if it is not a finite number."""
    if isinstance(answer, str | bytes | None) or getattr(answer, "size", 1) == 0:
        raise CandidateError(f"the function returned {answer!r}, not a number")
    try:
        number = float(answer.item() if callable(getattr(answer, "item", None)) else answer)
    except (TypeError, ValueError, OverflowError, RuntimeError):  # RuntimeError: a tensor of several numbers
        raise CandidateError(f"the function returned a {type(answer).__name__}, not a number") from None
    if not math.isfinite(number):
        raise CandidateError(f"the function returned {number}")
    return number


def _checked(
    function: Function, space: Mapping[str, Any], settings: Mapping[str, Any], seed: int, progress: bool
) -> tuple[Box, Config]:
    """Return the space and the configuration of a search, after all checks that need no call of the function."""
    if not callable(function):
        raise InputError(f"function is a {type(function).__name__}, which cannot be called")
    box = box_of(space)
    if settings["generations"] == 0:
        raise InputError("generations = 0: there is nothing to search; give at least 1")
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in settings.items()}
    tree = {"run": {"seed": int(seed) if isinstance(seed, np.integer) else seed, "progress": progress}, "search": plain}
    config = parse_config(tree, "of minimize")
    # No setting names the function: it is a Python object.
    config = config.model_copy(update={"search": config.search.model_copy(update={"evaluation": "function"})})
    check_optimizer(config.search, (box.lower, box.upper), config.run.seed, box.start(config))
    return box, config


def _refuse_other_arguments(comm: Communicator, config: Config, box: Box) -> None:
    """Raise an `InputError` on all ranks if a rank passed other arguments than rank 0."""
    if comm.size > 1 and not comm.can_split:
        raise agreed(
            InputError("minimize cannot run under horovodrun with Gloo: start with mpirun, srun --mpi=pmix or torchrun")
        )
    digest = _fingerprint(box, repr((config.search, config.run.seed)))
    others = [rank for rank, one in enumerate(comm.allgather(digest)) if one != comm.broadcast(digest)]
    if others:
        raise agreed(InputError(f"minimize: rank {others[0]} passed other arguments than rank 0"))


@contextmanager
def _folder(comm: Communicator, out: str | Path | None) -> Iterator[Path]:
    """Yield the folder of the search: `out`, or a temporary one of each rank."""
    if out is not None:
        folder = absolute_path(out)
        run_on_root(comm, lambda: folder.mkdir(parents=True, exist_ok=True))
        yield folder
        return
    temporary = agree(comm, lambda: tempfile.TemporaryDirectory(prefix="rcdp-minimize-", ignore_cleanup_errors=True))
    with temporary as name:
        yield Path(name)


def _name(function: Function) -> str:
    """Return module and name of a function, as far as it has them."""
    return f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', type(function).__qualname__)}"


def _fingerprint(box: Box, *texts: str) -> str:
    return hashlib.sha256(repr((box.dimensions, texts)).encode()).hexdigest()[:16]


def _result(history: Path) -> Minimum:
    """Return the result of a search from its history."""
    trials = tuple(_trial(line) for line in read_sealed_lines(history))
    called = [trial for trial in trials if not trial.reused]
    failed = [trial for trial in called if trial.reason is not None]
    best = min((trial for trial in called if trial.value is not None), key=lambda trial: float(trial.value or 0.0))
    if failed:
        log.warning(
            "minimize: %d of %d calls of the function failed, the first one because: %s",
            len(failed), len(called), failed[0].reason,
        )  # fmt: skip
    return Minimum(best.values, float(best.value or 0.0), len(called), len(failed), trials)


def _trial(line: Mapping[str, Any]) -> Trial:
    value = None if line["fitness"] is None else -line["fitness"]
    return Trial(line["generation"], line["candidate"], line["values"], value, line["reason"], line["reused"])
