"""Kernels, which compute the states of eq. 9: a class for each (table: `rcdp_hpc.config.choices.KERNELS`)."""

from rcdp_hpc.reservoir.kernels.base import Kernel
from rcdp_hpc.reservoir.kernels.load import kernel_class, kernel_names, make_kernel

__all__ = ["Kernel", "kernel_class", "kernel_names", "make_kernel"]
