"""Copies of constant tensors in the number format of a mixed-precision product, made once instead of in each step."""

from __future__ import annotations

import torch
from torch import Tensor


def product_dtype(x: Tensor) -> torch.dtype:
    """Return the number format in which autocast multiplies float32 tensors on the device of x; else that of x."""
    kind = x.device.type
    if x.dtype == torch.float64 or kind == "meta" or not torch.is_autocast_enabled(kind):
        return x.dtype
    return torch.get_autocast_dtype(kind)


class FrozenCasts:
    """Constant tensors in other number formats. A copy is made again if its tensor was replaced or written to.

    If it was written to, the copy keeps its place in memory, which a recorded step reads.
    """

    def __init__(self) -> None:
        self._copies: dict[str, tuple[Tensor, int, Tensor]] = {}

    def of(self, name: str, values: Tensor, dtype: torch.dtype) -> Tensor:
        """Return a tensor in a number format; `name` is one for each tensor."""
        if values.dtype == dtype:
            return values
        source, version, copy = self._copies.get(name, (None, -1, values))
        if source is not values or copy.dtype != dtype:
            copy = values.detach().to(dtype)
        elif version != values._version:
            copy.copy_(values.detach())
        self._copies[name] = (values, values._version, copy)
        return copy
