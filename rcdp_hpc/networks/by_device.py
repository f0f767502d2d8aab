"""Small tensors, copied once to each device that uses them."""

from __future__ import annotations

import torch
from torch import Tensor


class ByDevice:
    """Small tensors that training steps read, on any device: a copy in each step would keep the host waiting."""

    def __init__(self, *values: Tensor) -> None:
        self._values = values
        self._copies: dict[torch.device, tuple[Tensor, ...]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the tensors on a device."""
        if device not in self._copies:
            self._copies[device] = tuple(values.to(device) for values in self._values)
        return self._copies[device]

    def assign(self, *values: Tensor) -> None:
        """Replace the values, of the same shapes and dtypes, in place: recorded steps read the same memory."""
        for copies in (self._values, *self._copies.values()):
            for copy, new in zip(copies, values, strict=True):
                copy.copy_(new)
