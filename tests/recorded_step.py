"""Recordings of torch calls on the CPU, which stand for CUDA graphs, and a check that nothing is read back.

A recording keeps every call that reaches torch's dispatcher below autograd, with its tensors. A repetition makes the
same calls on the same tensors, in the same memory, and runs no other Python code: what a CUDA graph does on a GPU. Work
that reads a value back is refused, as CUDA refuses it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from rcdp_hpc.training.graph import Recorder, Work

# Calls whose result the host waits for: a value, or a shape that depends on values.
READ_BACKS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten._unique2.default,
    torch.ops.aten.unique_consecutive.default,
    torch.ops.aten.bincount.default,
    torch.ops.aten.repeat_interleave.Tensor,
}
# Torch has no meta kernels of these, which change tensors in place and return nothing.
WITHOUT_META_KERNELS = {
    torch.ops.aten._fused_adam_.tensor_lr,
    torch.ops.aten._fused_adamw_.tensor_lr,
    torch.ops.aten._fused_sgd_.tensor_lr,
    torch.ops.aten._fused_sgd_.default,
}
# The new tensor of torch.tensor(...), which is copied to its device.
FROM_HOST = {torch.ops.aten.lift_fresh.default}
TORCH = str(Path(torch.__file__).parent)


class ReadBackError(RuntimeError):
    """A value was read back from the device."""


class NoReadBacks(TorchDispatchMode):
    """Raises a `ReadBackError` with file and line within a ``with`` block if a value of a tensor is read."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it out

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if reads_back(operation, args, kwargs):
            raise ReadBackError(f"{line_of_the_caller()}: {operation} waits for the device")
        return self.made(operation, args, kwargs)

    def made(self, operation: Any, args: Any, kwargs: Any) -> Any:
        return operation(*args, **kwargs)


class ShapesOnly(NoReadBacks):
    """Refuses reads of values while work runs on the meta device, whose tensors have none.

    Parameters
    ----------
    constants : bool
        Whether tensors of the host may be read, as constants in a warm-up. A recording would copy what they held once.
    """

    def __init__(self, constants: bool = False) -> None:
        super().__init__()
        self.constants = constants

    def made(self, operation: Any, args: Any, kwargs: Any) -> Any:
        values = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
        of_host = operation in FROM_HOST or any(value.device.type != "meta" for value in values)
        if of_host and not self.constants:
            raise ReadBackError(f"{line_of_the_caller()}: {operation} of a tensor of the host")
        return None if operation in WITHOUT_META_KERNELS else operation(*args, **kwargs)


def reads_back(operation: Any, args: Any, kwargs: Any) -> bool:
    """Return whether the host waits for the result of a call."""
    if operation in READ_BACKS:
        return True
    if operation in (torch.ops.aten.index.Tensor, torch.ops.aten.index_put_.default, torch.ops.aten.index_put.default):
        return any(index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1])
    devices = [leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
    if operation is torch.ops.aten._to_copy.default:
        target = kwargs.get("device")
        return target is not None and target.type == "cpu" and devices[0] != "cpu"
    return operation is torch.ops.aten.copy_.default and devices[0] == "cpu" and "meta" in devices


def line_of_the_caller() -> str:
    """Return file, line and text of the innermost frame that belongs neither to torch nor to this file."""
    frames = [frame for frame in traceback.extract_stack(sys._getframe(1)) if frame.filename != __file__]
    outside = [frame for frame in frames if not frame.filename.startswith(TORCH)]
    return f"{outside[-1].filename}:{outside[-1].lineno}: {outside[-1].line}"


class RecordedCalls(NoReadBacks):
    """Records the calls within a ``with`` block; `repeat` makes them again."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Callable[..., Any], Any, Any, Any]] = []

    def made(self, operation: Any, args: Any, kwargs: Any) -> Any:
        if operation in FROM_HOST:
            raise ReadBackError(f"{line_of_the_caller()}: {operation} of numbers of the host")
        if operation.namespace == "profiler":
            return operation(*args, **kwargs)
        # Shapes may be changed in place later (transpose_), so the recording has views of its own.
        kept = tree_map_only(torch.Tensor, torch.Tensor.detach, (args, kwargs))
        result = operation(*args, **kwargs)
        self.calls.append((operation, *kept, tree_map_only(torch.Tensor, torch.Tensor.detach, result)))
        return result

    def repeat(self) -> None:
        # Below autograd, as when they were recorded, and not with gradients off, which changes some operations.
        with torch._C._AutoDispatchBelowAutograd():
            for operation, args, kwargs, result in self.calls:
                again = operation(*args, **kwargs)
                pairs = zip(tree_leaves(result), tree_leaves(again), strict=True)
                for value, other in pairs:
                    if isinstance(value, torch.Tensor) and value.data_ptr() != other.data_ptr():
                        value.copy_(other)


class CallRecorder(Recorder):
    """Records torch calls on the CPU.

    Recording runs the work, as that of a CUDA graph does not: tensors that existed before are put back.

    Attributes
    ----------
    warm_ups, records, repeats : int
        Number of each so far.
    """

    def __init__(self) -> None:
        self.warm_ups = self.records = self.repeats = 0

    def warm_up(self, work: Work) -> None:
        self.warm_ups += 1
        work()

    def record(self, work: Work) -> Work:
        calls = _Untouching()
        try:
            with calls:
                work()
        finally:
            calls.put_back()
        self.records += 1

        def repeat() -> None:
            self.repeats += 1
            calls.repeat()

        return repeat


class _Untouching(RecordedCalls):
    """Keeps a copy of each tensor that a recorded call reads or changes, if it was there before the recording.

    Not every operation declares what it changes: batch normalisation does not.
    """

    def __init__(self) -> None:
        super().__init__()
        self.own: set[int] = set()
        self.before: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def made(self, operation: Any, args: Any, kwargs: Any) -> Any:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, torch.Tensor) and _storage(value) not in self.own | self.before.keys():
                whole = value.new_empty(0).set_(value.untyped_storage())  # type: ignore[call-overload]
                self.before[_storage(value)] = whole, whole.clone()
        result = super().made(operation, args, kwargs)
        made = {_storage(leaf) for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)}
        self.own |= made - self.before.keys()
        return result

    def put_back(self) -> None:
        for value, earlier in self.before.values():
            value.copy_(earlier)


def _storage(value: torch.Tensor) -> int:
    return value.untyped_storage().data_ptr()
