"""Constant tensors, copied once to each device that uses them."""

from __future__ import annotations

import torch
from torch import Tensor


class ByDevice:
    """Constant tensors that training steps read, on any device: a copy in each step would keep the host waiting."""

    def __init__(self, *values: Tensor) -> None:
        self._values = values
        self._copies: dict[torch.device, tuple[Tensor, ...]] = {}

    def on(self, device: torch.device) -> tuple[Tensor, ...]:
        """Return the tensors on a device."""
        if device not in self._copies:
            self._copies[device] = tuple(values.to(device) for values in self._values)
        return self._copies[device]
