"""Loading the kernel that a configuration names, and checking that it keeps the contract of `Kernel`."""

from __future__ import annotations

import inspect

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.config.choices import KERNELS, is_user_class
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels.base import Kernel
from rcdp_hpc.reservoir.kernels.trial import check_kernel
from rcdp_hpc.runtime.user_code import load_choice

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def kernel_names() -> list[str]:
    """Return the names of the table's kernels, in its order, without "auto"."""
    return [str(choice.name) for choice in KERNELS if choice.target]


def kernel_class(name: str) -> type[Kernel]:
    """Return the class of a kernel of the table, or the user's own class.

    Parameters
    ----------
    name : str
        The value of ``reservoir.kernel``, "auto" already replaced by the kernel that was measured.

    Raises
    ------
    InputError
        If there is no such kernel, or the user's class is not a `Kernel`.
    """
    if name not in kernel_names() and not is_user_class(name):
        raise InputError(f"reservoir.kernel = {name!r}: expected {', '.join(kernel_names())} or module:Class")
    kernel = load_choice(KERNELS, name)
    setting = f"reservoir.kernel = {name!r}"
    if not (isinstance(kernel, type) and issubclass(kernel, Kernel)):
        raise InputError(
            f"{setting}: expected a class derived from rcdp_hpc.reservoir.kernels.Kernel (docs/extending.md)"
        )
    if inspect.isabstract(kernel):
        missing = ", ".join(sorted(kernel.__abstractmethods__))
        raise InputError(f"{setting}: the class has no {missing}: add it (docs/extending.md)")
    dtype = getattr(kernel, "dtype", None)
    if dtype not in DTYPES:
        raise InputError(f"{setting}: dtype = {dtype}; expected {', '.join(map(str, DTYPES))} (docs/extending.md)")
    return kernel


def check_named(name: str) -> None:
    """Check a kernel before any reservoir is built: its class, and if it runs on CPUs its states.

    Raises
    ------
    InputError
        If there is no such kernel, or its class breaks the contract of `Kernel`.
    """
    cpu = torch.device("cpu")
    kernel = kernel_class(name)
    try:
        kernel = kernel.for_device(cpu)
    except InputError:
        return  # the stage that computes states may run on a machine with a GPU
    check_kernel(name, kernel, cpu)


def make_kernel(
    name: str,
    settings: ReservoirSection,
    matrices: ReservoirMatrices,
    rates: NDArray[np.float64] | None,
    device: torch.device,
) -> Kernel:
    """Return an instance of a kernel, whose class has computed a small reservoir correctly (`check_kernel`).

    Parameters
    ----------
    name : str
        As in `kernel_class`.
    settings, matrices, rates, device
        As of `Kernel`.

    Raises
    ------
    InputError
        If there is no such kernel, the device cannot run it, or its class breaks the contract of `Kernel`.
    CandidateError
        If the matrices do not fit into memory.
    """
    kernel = kernel_class(name).for_device(device)
    if device.type != "meta":  # which has no values
        check_kernel(name, kernel, device)
    return kernel(settings, matrices, rates, device)
