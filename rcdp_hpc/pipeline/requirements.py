"""Libraries that a stage needs."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from rcdp_hpc.config import ParallelSection
from rcdp_hpc.config.choices.engines import AUTO
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed


def require_torch() -> None:
    """Raise an `InputError` if torch cannot be imported. Called before a stage imports code that needs it."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise agreed(
            InputError(
                f"this stage needs torch, which cannot be imported ({error}). Run `make setup` in the checkout, or "
                "install the extra: pip install 'rcdp_hpc[torch]'. `rcdp doctor` shows what is missing."
            )
        ) from None


def require_torch_for(stages: Sequence[str], comm: Communicator) -> None:
    """Refuse stages that need torch on a machine without it, before the preparation. Collective; imports nothing.

    Raises
    ------
    InputError
        On all ranks, if torch is not installed on one of them.
    """

    def check() -> None:
        try:
            missing = find_spec("torch") is None
        except (ImportError, ValueError):
            missing = True
        if missing:
            require_torch()

    if {"train", "evaluate"} & set(stages):
        agree(comm, check)


def require_engine(comm: Communicator, settings: ParallelSection) -> None:
    """Refuse an engine that a rank cannot use, before the stages that come before the training. Collective.

    Parameters
    ----------
    comm : Communicator
        All ranks of the training.
    settings : ParallelSection
        The same on every rank. With the engine ``auto`` nothing is imported: the training chooses.

    Raises
    ------
    InputError
        On all ranks, if a rank cannot use the engine that ``parallel.engine`` names.
    """
    if comm.size == 1 or settings.engine == AUTO:
        return
    require_torch()
    from rcdp_hpc.parallel.choose import choose_engine

    choose_engine(comm, settings)
