"""How this process was started: by one of the launchers of `rcdp_hpc.runtime.comm.launchers`, or by none."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.launcher import NO_LAUNCHER, Launch, WrongVariableError
from rcdp_hpc.runtime.comm.launchers import LAUNCHERS


def detect(environ: Mapping[str, str] | None = None) -> Launch:
    """Return how this process was started.

    This function raises no error, because every log message asks it for the rank: an invalid variable gives a single
    process whose `conflict` names the variable. Empty variables count as not set.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Default: the environment of this process.
    """
    env = os.environ if environ is None else environ
    try:
        found = (launcher.detect(env) for launcher in LAUNCHERS)
        return next((launch for launch in found if launch is not None), Launch(NO_LAUNCHER, 0, 1))
    except WrongVariableError as error:
        return Launch(NO_LAUNCHER, 0, 1, str(error))


def number_from_environment(name: str, default: int, environ: Mapping[str, str] | None = None) -> int:
    """Return the value of an environment variable as an integer; `default` if it is not set or empty.

    Raises
    ------
    InputError
        If the value is not an integer of at most nine digits.
    """
    value = (os.environ if environ is None else environ).get(name, "").strip()
    if not value:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", value):
        raise InputError(f"the environment variable {name} = {value!r} is not a whole number. Correct or unset it.")
    return int(value)
