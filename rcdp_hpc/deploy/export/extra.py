"""Packages that some formats need."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from rcdp_hpc.errors import InputError


def import_extra(package: str, suffix: str) -> ModuleType:
    """Return a module of the extra ``export``.

    Parameters
    ----------
    package : str
    suffix : str
        The format that needs it, for the message.

    Raises
    ------
    InputError
        If it is not installed.
    """
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"{suffix}: needs the package {package}, which cannot be imported ({error}). Install it with `pip "
            "install -c constraints.txt onnx safetensors`, or export as .npz, which needs nothing."
        ) from None
