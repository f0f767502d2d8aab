"""Gradients through the frozen reservoir: eq. 9 in operations that torch differentiates.

The reservoir's matrices are constants. Gradients reach the input sequences, and so the trained extractor that computed
them. The states are those of `Reservoir.states` up to rounding. Memory grows with the steps, since backpropagation
needs the states of every step.
"""

from __future__ import annotations

from functools import partial

import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import pad

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.activations import load_activation
from rcdp_hpc.reservoir.activations.identity import Identity
from rcdp_hpc.reservoir.backpropagation import FUNCTIONS, StateSequence
from rcdp_hpc.reservoir.frozen_casts import FrozenCasts, product_dtype
from rcdp_hpc.reservoir.inputs import prepare_inputs
from rcdp_hpc.reservoir.kept_steps import check_length
from rcdp_hpc.reservoir.reductions import reduction_class
from rcdp_hpc.reservoir.scans import Scan
from rcdp_hpc.reservoir.states import Reservoir


class DifferentiableReservoir(nn.Module):
    """A reservoir as a torch module without parameters.

    s_(t+1) = (1 - a) · s_t + a · f(C · s_t + W_in · u_t + b_in), and by the chain rule
    dL/ds_t = (1 - a) · dL/ds_(t+1) + a · C' (f' ∘ dL/ds_(t+1)),  dL/du_t = a · W_in' (f' ∘ dL/ds_(t+1)).

    Parameters
    ----------
    reservoir : Reservoir
        Its settings, matrices and device are used.
    dtype : torch.dtype
        Number format of the computation, float32 or float64.

    Raises
    ------
    InputError
        If torch does not differentiate the activation.
    """

    def __init__(self, reservoir: Reservoir, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        self.reservoir = reservoir
        self.settings = reservoir.settings
        for scan, layers in enumerate(reservoir.matrices):
            for layer, matrices in enumerate(layers):
                arrays = (matrices.recurrent.toarray(), matrices.input, matrices.bias)
                names = [f"{name}_{scan}_{layer}" for name in ("recurrent", "input", "bias")]
                for name, array in zip(names, arrays, strict=True):
                    self.register_buffer(name, torch.as_tensor(array).to(reservoir.device, dtype), persistent=False)
                if matrices.mixing is not None:
                    mixing = torch.as_tensor(matrices.mixing).to(reservoir.device, dtype)
                    self.register_buffer(f"mixing_{scan}_{layer}", mixing, persistent=False)
                rates = reservoir.rates[scan][layer]
                leak = None if rates is None else torch.as_tensor(rates).to(reservoir.device, dtype)
                self.register_buffer(f"leak_{scan}_{layer}", leak, persistent=False)
        self.activation = load_activation(self.settings.activation)
        self._casts = FrozenCasts()
        self._check_gradient(dtype)

    def _check_gradient(self, dtype: torch.dtype) -> None:
        """Refuse an activation through which torch does not differentiate."""
        x = torch.linspace(-1, 1, 3, dtype=dtype, device="cpu").requires_grad_()
        with torch.enable_grad():
            y = self.activation(x)
        if not y.requires_grad:
            raise InputError(
                f"reservoir.activation = {self.settings.activation!r}: its result has no gradient, and a trained "
                "extractor needs one; expected operations that torch differentiates (docs/extending.md)"
            )

    def forward(self, u: Tensor, lengths: ArrayLike | None = None) -> Tensor:
        """Return the features of the states, as `Reservoir.states`.

        Parameters
        ----------
        u : torch.Tensor, shape (batch, steps, features)
            Input sequences, of the module's dtype.
        lengths : array of int, shape (batch,), optional
            Steps of each sequence.

        Returns
        -------
        torch.Tensor, shape (batch, width)

        Raises
        ------
        InputError
            If a shape does not fit, or a sequence is too short.
        """
        if u.ndim != 3 or u.shape[2] != self.reservoir.features:
            raise InputError(f"sequences of shape {tuple(u.shape)}: expected (batch, steps, {self.reservoir.features})")
        ends = None if lengths is None else torch.as_tensor(lengths).to(u.device, torch.int64)
        listed = [u.shape[1]] * len(u) if ends is None else ends.tolist()
        for length in set(listed):
            check_length(self.settings, length)
        u = prepare_inputs(self.settings, u, ends)
        parts = []
        for number, scan in enumerate(self.reservoir.scans):
            for direction in range(self.reservoir.directions):
                # Steps first: the states of a step are then next to each other.
                states = _windowed(scan, scan.read(u, ends, turned=bool(direction))).transpose(0, 1)
                for layer in range(self.settings.layers):
                    states = self._states(states, number, layer)
                    parts.append(self._reduced(states.transpose(0, 1), listed))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _states(self, u: Tensor, scan: int, layer: int) -> Tensor:
        """Return the states after all steps, shape (steps, batch, nodes), of u (steps, batch, features)."""
        recurrent, weights, bias = (
            self.get_buffer(f"{name}_{scan}_{layer}") for name in ("recurrent", "input", "bias")
        )
        rates = getattr(self, f"leak_{scan}_{layer}")
        leak = float(self.settings.leak) if rates is None else rates
        dtype = product_dtype(u.to(bias.dtype))
        cast = partial(self._casts.of, dtype=dtype)
        # One product of all steps is faster than one for each, which torch makes of a transposed tensor.
        driven = u.to(dtype).contiguous() @ cast(f"input_{scan}_{layer}", weights).T
        constant = cast(f"recurrent_{scan}_{layer}", recurrent)
        if self.settings.kind == "diagonal":
            mixing = cast(f"mixing_{scan}_{layer}", self.get_buffer(f"mixing_{scan}_{layer}"))
            memory = StateSequence.apply(driven, torch.zeros_like(bias[:1]), constant, 1.0, FUNCTIONS[Identity])
            return _damped(self.activation(memory.to(dtype) @ mixing.T + bias), leak)
        function = FUNCTIONS.get(type(self.activation))  # type: ignore[arg-type]
        if function is not None:
            states: Tensor = StateSequence.apply(driven, bias, constant, leak, function)
            return states
        return self._differentiated(driven + bias, constant, leak)

    def _differentiated(self, driven: Tensor, recurrent: Tensor, leak: float | Tensor) -> Tensor:
        """Return the states after all steps with an activation of which only torch knows the derivative."""
        state = torch.zeros_like(driven[0])
        states = []
        for step in range(len(driven)):
            moved = self.activation(state.to(recurrent.dtype) @ recurrent.T + driven[step])
            state = torch.lerp(state, moved, leak)
            states.append(state)
        return torch.stack(states)

    def _reduced(self, states: Tensor, lengths: list[int]) -> Tensor:
        """Return the values of each sequence, shape (batch, values · nodes)."""
        if len(set(lengths)) <= 1:
            return self._reduced_alike(states[:, : lengths[0]] if lengths else states)
        pairs = zip(states, lengths, strict=True)
        return torch.cat([self._reduced_alike(sequence[None, :length]) for sequence, length in pairs])

    def _reduced_alike(self, states: Tensor) -> Tensor:
        """Return the values of sequences of one length, shape (batch, values · nodes)."""
        kinds = [reduction_class(name) for name in self.settings.reduction]
        steps = self.reservoir.values  # only "all" reads it: the steps of the longest sequence
        values = [kind.of_states(self.settings, states, kind.values(self.settings, steps)) for kind in kinds]
        return (values[0] if len(values) == 1 else torch.cat(values, dim=1)).flatten(1)


def _damped(moved: Tensor, leak: float | Tensor) -> Tensor:
    """Return s_t = (1 - a) · s_(t-1) + a · x_t of all steps of x, shape (steps, batch, nodes)."""
    if isinstance(leak, float) and leak == 1:
        return moved
    state, states = torch.zeros_like(moved[0]), []
    for step in range(len(moved)):
        state = torch.lerp(state, moved[step], leak)
        states.append(state)
    return torch.stack(states)


def _windowed(scan: Scan, u: Tensor) -> Tensor:
    """Return the input of each step, shape (batch, steps, window · features), zeros before the first step."""
    if scan.window == 1:
        return u
    steps = u.shape[1]
    earlier = [pad(u[:, : max(0, steps - back)], (0, 0, min(back, steps), 0)) for back in range(1, scan.window)]
    return torch.cat([u, *earlier], dim=2)
