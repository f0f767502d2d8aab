"""Kernels of torch's fused optimisers for the meta device, which torch 2.13 lacks if the learning rate is a tensor.

A tensor of the meta device has a shape and no values, so that the kernels have nothing to do.
"""

from __future__ import annotations

from typing import Any

import torch

_NAMES = (
    "_fused_adam_.tensor_lr", "_fused_adamw_.tensor_lr", "_fused_sgd_", "_fused_sgd_.tensor_lr",
)  # fmt: skip
_library = torch.library.Library("aten", "IMPL", "Meta")


def _nothing(*arguments: Any, **options: Any) -> None:
    pass


for _name in _NAMES:
    if not torch._C._dispatch_has_kernel_for_dispatch_key(f"aten::{_name}", "Meta"):
        _library.impl(_name, _nothing)
