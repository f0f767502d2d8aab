"""States of all steps and their gradients in few operations, for activations whose derivative follows from their value.

Torch would differentiate each step for itself: about 14 operations a step and layer, and a copy of its states for each
of them. Here a step is a product, a sum and the activation, backwards as well, which overwrite one tensor of all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from rcdp_hpc.reservoir.activations import Activation
from rcdp_hpc.reservoir.activations.identity import Identity
from rcdp_hpc.reservoir.activations.relu import Relu
from rcdp_hpc.reservoir.activations.sigmoid import Sigmoid
from rcdp_hpc.reservoir.activations.tanh import Tanh

aten = torch.ops.aten


class Function(NamedTuple):
    """An activation f whose derivative is a function of y = f(z).

    Attributes
    ----------
    apply_ : callable
        Replaces z by f(z) in place.
    into : callable
        Writes f(z) to a tensor of another number format; it may replace z by f(z), if f(f(z)) = f(z).
    backward : callable
        Called with dL/dy, y and the tensor that dL/dz is written to, perhaps of another number format.
    """

    apply_: Callable[[Tensor], Tensor]
    into: Callable[[Tensor, Tensor], Any]
    backward: Callable[[Tensor, Tensor, Tensor], Any]


def _derived(operation: Any, gradient: Tensor, y: Tensor, out: Tensor) -> None:
    """Write an operation of (gradient, y) to `out`, computed in their number format; a GPU would take that of `out`."""
    if out.dtype == y.dtype:
        operation.grad_input(gradient, y, grad_input=out)
    else:
        out.copy_(operation(gradient, y))


FUNCTIONS: dict[type[Activation], Function] = {
    Tanh: Function(
        torch.tanh_,
        lambda z, out: torch.tanh(z, out=out),
        lambda gradient, y, out: _derived(aten.tanh_backward, gradient, y, out),
    ),
    Sigmoid: Function(
        torch.sigmoid_,
        lambda z, out: torch.sigmoid(z, out=out),
        lambda gradient, y, out: _derived(aten.sigmoid_backward, gradient, y, out),
    ),
    Relu: Function(
        torch.relu_,
        lambda z, out: out.copy_(z.relu_()),
        lambda gradient, y, out: aten.threshold_backward.grad_input(gradient, y, 0, grad_input=out),
    ),
    Identity: Function(
        lambda z: z,
        lambda z, out: out.copy_(z),
        lambda gradient, y, out: out.copy_(gradient),
    ),
}


class StateSequence(torch.autograd.Function):
    """The states of all steps, shape (steps, batch, nodes), with a reservoir's matrices as constants.

    s_t = (1 - a) · s_(t-1) + a · f(C · s_(t-1) + v_t + b), s_0 = 0. With g_t = dL/ds_t of all that s_t influences,

    ``g_t = dL/ds_t + (1 - a) · g_(t+1) + C' d_(t+1)``,  d_t = dL/dv_t = a · f'(z_t) · g_t.

    States and sums are in the number format of the bias, products in that of v and C: 16 bits in mixed precision. With
    a = 1 the states are those of automatic differentiation to the bit.

    Parameters
    ----------
    driven : torch.Tensor, shape (steps, batch, nodes)
        v_t = W_in · u_t, in the number format of the products.
    bias : torch.Tensor, shape (nodes,)
    recurrent : torch.Tensor, shape (nodes, nodes)
        C, of the dtype of `driven`.
    leak : float or torch.Tensor, shape (nodes,)
        a; a tensor has the dtype of `bias`.
    function : Function
        f.
    """

    @staticmethod
    def forward(
        ctx: Any, driven: Tensor, bias: Tensor, recurrent: Tensor, leak: float | Tensor, function: Function
    ) -> Tensor:
        """Return the states; parameters as of the class."""
        z = driven + bias
        ctx.leak, ctx.function, ctx.product_dtype = leak, function, driven.dtype
        if isinstance(leak, float) and leak == 1:
            states = _undamped(z, recurrent, function)
            ctx.save_for_backward(states, recurrent)
            return states
        states = _damped(z, recurrent, leak, function)
        ctx.save_for_backward(z, recurrent)
        return states

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        """Return dL/dv_t of all steps; the other arguments are constants."""
        moved, recurrent = ctx.saved_tensors
        leak, function = ctx.leak, ctx.function
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        slopes = torch.empty_like(moved, dtype=ctx.product_dtype)
        plain = isinstance(leak, float) and leak == 1
        # Row i of C multiplies d_i, of which the factor a_i is left out until the end.
        scaled = recurrent if plain else _scaled_rows(recurrent, leak)
        last = len(total) - 1
        for step in range(last, -1, -1):
            gradient = total[step]
            if step < last:
                _add_product(gradient, slopes[step + 1], scaled)
                if not plain:
                    _add_scaled(gradient, total[step + 1], 1 - leak)
            function.backward(gradient, moved[step], slopes[step])
        return (slopes if plain else slopes.mul_(leak)), None, None, None, None


def _undamped(z: Tensor, recurrent: Tensor, function: Function) -> Tensor:
    """Return the states for a = 1 in the place of z."""
    back = recurrent.T
    if recurrent.dtype == z.dtype:
        for step in range(len(z)):
            if step:
                z[step].addmm_(z[step - 1], back)
            function.apply_(z[step])
        return z
    state = torch.empty_like(z[0], dtype=recurrent.dtype) if len(z) > 1 else z
    for step in range(len(z)):
        if step:
            z[step].add_(torch.mm(state, back))
        if step < len(z) - 1:
            function.into(z[step], state)
    # The states of all steps at once in their own number format; those of the loop are rounded.
    return function.apply_(z)


def _damped(z: Tensor, recurrent: Tensor, leak: float | Tensor, function: Function) -> Tensor:
    """Return the states for a below 1, and replace z by f(z)."""
    back = recurrent.T
    states = torch.empty_like(z)
    for step in range(len(z)):
        if step:
            _add_product(z[step], states[step - 1].to(recurrent.dtype), back)
        function.apply_(z[step])
        if step:
            torch.lerp(states[step - 1], z[step], leak, out=states[step])
        else:
            torch.mul(z[step], leak, out=states[step])
    return states


def _add_product(sums: Tensor, rows: Tensor, matrix: Tensor) -> None:
    """Add rows @ matrix to sums, which may be of another number format."""
    if sums.dtype == matrix.dtype:
        sums.addmm_(rows, matrix)
    else:
        sums.add_(torch.mm(rows, matrix))


def _add_scaled(sums: Tensor, values: Tensor, factor: float | Tensor) -> None:
    if isinstance(factor, Tensor):
        sums.addcmul_(values, factor)
    else:
        sums.add_(values, alpha=factor)


def _scaled_rows(matrix: Tensor, factor: float | Tensor) -> Tensor:
    return matrix * (factor[:, None].to(matrix.dtype) if isinstance(factor, Tensor) else factor)
