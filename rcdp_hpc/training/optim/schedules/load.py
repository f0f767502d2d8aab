"""Creation of the schedule that a configuration names, and checks of what it returns."""

from __future__ import annotations

import math
import traceback
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import SCHEDULES
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.user_code import load_choice
from rcdp_hpc.training.optim.schedules.base import Schedule

TRIAL_STEPS = 10
TRIAL_EPOCHS = 100


class CheckedSchedule:
    """A schedule whose answers are checked: an `InputError` names the class, what it returned and what is expected.

    Parameters
    ----------
    config : Config
        ``schedule`` and ``training.epochs`` are read.
    steps, warmup : int
        As in `Schedule`.

    Raises
    ------
    InputError
        If the class cannot be imported or created, or is not a subclass of `Schedule`.
    """

    def __init__(self, config: Config, steps: int, warmup: int) -> None:
        self.name = config.schedule.kind
        kind = load_choice(SCHEDULES, self.name)
        if not isinstance(kind, type) or not issubclass(kind, Schedule):
            self._refuse("it is not a subclass of rcdp_hpc.training.optim.schedules.Schedule")
        self._schedule: Schedule = self._call(
            "its constructor", lambda: kind(config.schedule, steps, config.training.epochs, warmup)
        )
        self.steps = steps
        self.warmup = warmup

    def factor(self, epoch: int, step: int) -> float:
        """Return the factor of the peak learning rate at a step of an epoch, both from 0."""
        t = epoch * self.steps + step
        if t < self.warmup and self._schedule.linear_warmup:
            return (t + 1) / self.warmup
        factor = self._call("factor", lambda: self._schedule.factor(epoch, t))
        if not _is_number(factor) or not 0 <= factor < math.inf:
            self._refuse(f"factor(epoch={epoch}, t={t}) returned {factor!r}; expected a number of 0 or more")
        return float(factor)

    def close_epoch(self, epoch: int, validation_loss: float) -> None:
        """Pass the validation loss of an epoch to the schedule."""
        self._call("close_epoch", lambda: self._schedule.close_epoch(epoch, validation_loss))

    def state(self) -> dict[str, float]:
        """Return the numbers that the schedule needs to continue."""
        state = self._call("state", self._schedule.state)
        if not isinstance(state, dict) or not all(type(name) is str and _is_number(x) for name, x in state.items()):
            self._refuse(f"state returned {state!r}; expected a dict of numbers by name")
        return {name: number if type(number) is int else float(number) for name, number in state.items()}

    def restore(self, state: Mapping[str, float]) -> None:
        """Continue from a state. Errors are the schedule's own: the state may be that of another schedule."""
        self._schedule.restore(state)

    def _call(self, method: str, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except RcdpError:
            raise
        except (Exception, SystemExit) as error:  # the user's class may raise any error
            place = traceback.extract_tb(error.__traceback__)[-1]
            self._refuse(
                f"{method} raised {type(error).__name__}: {error} ({place.filename}, line {place.lineno})", error
            )

    def _refuse(self, problem: str, cause: BaseException | None = None) -> NoReturn:
        raise InputError(f"schedule.kind = {self.name!r}: {problem} (docs/extending.md)") from cause


def check_schedule(config: Config) -> None:
    """Check that the configured schedule keeps the contract of `Schedule`, on epochs of ten steps.

    Raises
    ------
    InputError
        If it cannot be created, a factor is not a number of 0 or more, or it does not continue from its state.
    """
    first, second = CheckedSchedule(config, TRIAL_STEPS, 0), CheckedSchedule(config, TRIAL_STEPS, 0)
    epochs = range(min(config.training.epochs, TRIAL_EPOCHS))
    for epoch in epochs:
        for step in range(TRIAL_STEPS):
            first.factor(epoch, step)
        first.close_epoch(epoch, 1.0)
    state = first.state()
    try:
        second.restore(state)
    except Exception as error:  # the user's class may raise any error
        second._refuse(f"restore raised {type(error).__name__}: {error} for what state returned, {state!r}")
    last = epochs[-1]
    for step in range(TRIAL_STEPS):
        expected, found = first.factor(last, step), second.factor(last, step)
        if expected != found:
            first._refuse(
                f"factor(epoch={last}, t={last * TRIAL_STEPS + step}) is {expected:g}, and {found:g} after restore of "
                "its state; expected a factor that depends on epoch, t and the state only"
            )


def _is_number(value: object) -> bool:
    try:
        return not isinstance(value, bool | str) and not math.isnan(float(value))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return False
