"""What the states of a rank need, and where they fit."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from rcdp_hpc.runtime.files import free_bytes, reserve
from rcdp_hpc.runtime.ram import MIB, is_out_of_memory, is_tmpfs
from rcdp_hpc.training.states.host_states import host_tensor
from rcdp_hpc.training.states.memory import Memories

T = TypeVar("T")
# Left free on the disk for other files.
SPARE_BYTES = 2**26


@dataclass(frozen=True)
class Need:
    """The memory that the rows of this rank need, and the memory that it may use.

    Attributes
    ----------
    rows, width : int
        Training and validation rows, and values of each.
    dtype : torch.dtype
        Dtype of the states.
    samples : int
        Bytes of the raw samples.
    memories : Memories
        Bytes that the rank may use.
    """

    rows: int
    width: int
    dtype: torch.dtype
    samples: int
    memories: Memories

    @property
    def states(self) -> int:
        """Bytes of the states."""
        return self.rows * self.width * self.dtype.itemsize

    def beyond_memory(self) -> str:
        """Return why the states are not stored in the memory of the host; empty if they fit."""
        return self._beyond(self.memories.host, "(states.memory_mib, or its share of the memory)")

    def beyond_gpu(self) -> str:
        """Return why the states are not stored on the GPU; empty if they fit."""
        memories = self.memories
        share = "states.memory_mib, or its share of the free memory, less that of the network"
        return self._beyond(memories.gpu or 0, f"of {memories.gpu_name} ({share})")

    def _beyond(self, memory: int, whose: str) -> str:
        if self.states <= memory:
            return ""
        return (
            f"the states of {self.rows} rows, {self.width} values each, take {mib(self.states)}, more than the "
            f"{memory // MIB} MiB that a rank may use {whose}"
        )

    def on_device(self, where: torch.device) -> tuple[torch.Tensor | None, str]:
        """Return a tensor for the states on a device, shape (rows, width), or None and why there is none."""
        return self._made(partial(torch.empty, (self.rows, self.width), dtype=self.dtype, device=where), str(where))

    def on_host(self) -> tuple[torch.Tensor | None, str]:
        """Return a tensor in host memory from which a GPU copies, or None and why there is none."""
        return self._made(partial(host_tensor, self.rows, self.width, self.dtype), "the host")

    def _made(self, make: Callable[[], torch.Tensor], where: str) -> tuple[torch.Tensor | None, str]:
        tensor, missing = unless_out_of_memory(make)
        return tensor, missing and f"{where} has no {mib(self.states)} for the states, which should fit ({missing})"

    def file(self) -> tuple[torch.Tensor | None, str]:
        """Return a tensor in a file for the states, shape (rows, width), or None and why there is none."""
        if self.states > self.memories.disk:
            return None, f"states.disk_mib = {self.memories.disk // MIB} allows no file of {mib(self.states)}"
        folder = Path(tempfile.gettempdir())
        try:
            if is_tmpfs(folder):
                return None, f"{folder} is in memory, not on a disk (set TMPDIR to a disk)"
            free = free_bytes(folder)
            if free < self.states + SPARE_BYTES:
                return None, f"{folder} has {free // MIB} MiB free for a file of {mib(self.states)} (set TMPDIR)"
            return self._mapped(folder), ""
        except OSError as error:
            return None, f"a file of {mib(self.states)} cannot be written to {folder} ({error.strerror}; set TMPDIR)"

    def _mapped(self, folder: Path) -> torch.Tensor:
        # The file has no name, so that it is removed however the process ends.
        with tempfile.TemporaryFile(dir=folder, prefix="rcdp-") as file:
            # Reserved completely: if the disk gets full later, a mapped file kills the process without a message.
            reserve(file, self.states)
            mapped = np.memmap(file, np.uint8, "r+", shape=(self.states,))
        return torch.from_numpy(mapped).view(self.dtype).view(self.rows, self.width)

    def beyond_samples(self) -> str:
        """Return why states cannot be computed from samples in memory; empty if they can."""
        return "" if self.samples <= self.memories.host else f"the samples themselves take {mib(self.samples)}"

    def advice(self) -> str:
        """Return what the user can do."""
        half = " set states.precision = 'bfloat16'," if self.dtype.itemsize > 2 else ""
        return (
            f"raise states.memory_mib or states.disk_mib,{half} select fewer states (reservoir.states, "
            "reservoir.reduction), or use fewer nodes or more machines"
        )


def unless_out_of_memory(work: Callable[[], T]) -> tuple[T | None, str]:
    """Return the result of `work` and an empty text; None and the error's first line if memory is missing."""
    try:
        return work(), ""
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        return None, str(error).partition("\n")[0]


def mib(size: int) -> str:
    """Return a size in MiB, for messages."""
    return f"{math.ceil(size / MIB)} MiB"
