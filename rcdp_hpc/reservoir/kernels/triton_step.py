"""A step of a reservoir as one Triton program: product, noise, activation and leak. Imported only where Triton is."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

# Rows and neurons of a tile, and columns that are read at a time: 96 KiB of shared memory with `STAGES`.
TILE_ROWS, TILE_NODES, TILE_COLUMNS = 128, 128, 64
STAGES, WARPS = 3, 8
# Tiles of this many rows of tiles follow each other, so that they find the weights in the cache.
GROUP = 8


@triton.jit
def _step(  # type: ignore[no-untyped-def]
    joined, weights, noise, state, leaks, after,
    rows, nodes, columns, joined_stride, weights_stride, noise_stride, state_stride, after_stride, leak,
    activation: tl.constexpr, has_noise: tl.constexpr, forgets: tl.constexpr, has_leaks: tl.constexpr,
    tile_rows: tl.constexpr, tile_nodes: tl.constexpr, tile_columns: tl.constexpr, group: tl.constexpr,
):  # fmt: skip
    """Compute a tile of f(joined · weights' + noise), moved by the leak, and write it into `after`."""
    program = tl.program_id(0)
    down, across = tl.cdiv(rows, tile_rows), tl.cdiv(nodes, tile_nodes)
    first = program // (group * across) * group
    height = tl.minimum(down - first, group)
    within = program % (group * across)
    row = (first + within % height) * tile_rows + tl.arange(0, tile_rows)
    node = (within // height) * tile_nodes + tl.arange(0, tile_nodes)
    is_row, is_node = row[:, None] < rows, node[None, :] < nodes
    # Places in tensors may exceed 32 bits.
    row64, node64 = row.to(tl.int64)[:, None], node.to(tl.int64)[None, :]
    column = tl.arange(0, tile_columns)
    total = tl.zeros((tile_rows, tile_nodes), dtype=tl.float32)
    for start in range(0, columns, tile_columns):
        place = start + column
        left = tl.load(
            joined + row64 * joined_stride + place[None, :], mask=is_row & (place[None, :] < columns), other=0.0
        )
        right = tl.load(
            weights + node64 * weights_stride + place[:, None], mask=is_node & (place[:, None] < columns), other=0.0
        )
        total = tl.dot(left, right, total)
    inside = is_row & is_node
    if has_noise:
        total += tl.load(noise + row64 * noise_stride + node64, mask=inside, other=0.0)
    if activation == "tanh":
        total = 2.0 / (1.0 + tl.exp(-2.0 * total)) - 1.0
    elif activation == "sigmoid":
        total = 1.0 / (1.0 + tl.exp(-total))
    elif activation == "relu":
        total = tl.where(total <= 0.0, 0.0, total)  # NaN stays NaN
    if not forgets:
        before = tl.load(state + row64 * state_stride + node64, mask=inside, other=0.0)
        rate = leak
        if has_leaks:
            rate = tl.load(leaks + node64, mask=is_node, other=0.0)
        total = before + rate * (total - before)
        tl.store(state + row64 * state_stride + node64, total, mask=inside)
    tl.store(after + row64 * after_stride + node64, total.to(after.dtype.element_ty), mask=inside)


def step(
    joined: Tensor,
    weights: Tensor,
    after: Tensor,
    activation: str,
    leak: float | Tensor,
    state: Tensor | None = None,
    noise: Tensor | None = None,
) -> None:
    """Compute a step of eq. 9 for the first samples.

    Parameters
    ----------
    joined : torch.Tensor, shape (rows, columns), 16 bits
        Rows [s, u, 1, 0] or [u, 1, 0].
    weights : torch.Tensor, shape (nodes, columns), of the same dtype
    after : torch.Tensor, shape (rows, nodes), of the same dtype
        Where the states are written. The last axes of all tensors are contiguous.
    activation : {"tanh", "sigmoid", "relu", "identity"}
    leak : float or torch.Tensor, shape (nodes,), float32
        Without `state` it is 1.
    state : torch.Tensor, shape (rows, nodes), float32, optional
        The states before and after the step.
    noise : torch.Tensor, shape (rows, nodes), float32, optional
    """
    (rows, columns), nodes = joined.shape, len(weights)
    tiles = triton.cdiv(rows, TILE_ROWS) * triton.cdiv(nodes, TILE_NODES)
    leaks = leak if isinstance(leak, Tensor) else None
    unused = after  # in place of tensors that are not read
    with torch.cuda.device_of(after):
        _step[(tiles,)](
            joined, weights, unused if noise is None else noise, unused if state is None else state,
            unused if leaks is None else leaks, after,
            rows, nodes, columns, joined.stride(0), weights.stride(0), 0 if noise is None else noise.stride(0),
            0 if state is None else state.stride(0), after.stride(0), 1.0 if leaks is not None else float(leak),
            activation, noise is not None, state is None, leaks is not None,
            TILE_ROWS, TILE_NODES, TILE_COLUMNS, GROUP, num_warps=WARPS, num_stages=STAGES,
        )  # fmt: skip
