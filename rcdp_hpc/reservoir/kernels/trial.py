"""The check of a kernel's class: the states of a small reservoir are compared with eq. 9 in float64."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.kernels.base import Kernel

NODES, COLUMNS, SAMPLES, STEPS = 12, 2, 4, 4
# Inputs of a step: those of the step itself and of the step before, as with ``reservoir.window = 2``.
FEATURES = 2 * COLUMNS
# From the third step on two of the sequences have ended; the second step has noise.
ROWS = (SAMPLES, SAMPLES, 2, 2)
NOISY_STEP = 1
# Rounding to bfloat16 changes these states, within [-1, 1], by less than 0.02.
LARGEST_DIFFERENCE = 0.1
_checked: WeakKeyDictionary[type[Kernel], set[str]] = WeakKeyDictionary()


def check_kernel(name: str, kernel: type[Kernel], device: torch.device) -> None:
    """Compare the states of a small reservoir with eq. 9, once per class and device.

    Parameters
    ----------
    name : str
        The value of ``reservoir.kernel``, for the messages.
    kernel : type
    device : torch.device

    Raises
    ------
    InputError
        If the class fails, returns other shapes or number formats, or computes other states.
    """
    devices = _checked.setdefault(kernel, set())
    if str(device) in devices:
        return
    rates = np.linspace(0.3, 0.9, NODES)
    for leak, each in ((1.0, None), (0.6, None), (0.9, rates)):
        _check_states(name, kernel, device, leak, each)
    devices.add(str(device))


def _check_states(
    name: str, kernel: type[Kernel], device: torch.device, leak: float, rates: NDArray[np.float64] | None
) -> None:
    generator = np.random.default_rng(0)
    recurrent = scipy.sparse.csr_array(generator.uniform(-0.4, 0.4, (NODES, NODES)))
    matrices = ReservoirMatrices(
        recurrent, generator.uniform(-0.5, 0.5, (NODES, FEATURES)), generator.uniform(-0.2, 0.2, NODES)
    )
    u = generator.uniform(-1, 1, (STEPS, SAMPLES, COLUMNS))
    noise = generator.uniform(-0.5, 0.5, (SAMPLES, NODES))
    settings = ReservoirSection.model_validate({"nodes": NODES, "leak": leak, "activation": "tanh"})
    expected = _expected(matrices, leak if rates is None else rates, u, noise)
    try:
        with torch.no_grad():
            instance = kernel(settings, matrices, rates, device)
            instance.begin(SAMPLES)
            _run(name, instance, u, noise, expected)
            instance.begin(SAMPLES)  # again, from s_0 = 0
            _run(name, instance, u, noise, expected)
    except InputError:
        raise
    except Exception as error:  # whatever the user's class raises
        raise _broken(name, f"a trial failed ({type(error).__name__}: {error})") from None


def _expected(
    matrices: ReservoirMatrices, leak: float | NDArray[np.float64], u: NDArray[np.float64], noise: NDArray[np.float64]
) -> list[NDArray[np.float64]]:
    """Return the states after each step by eq. 9, shape (samples, nodes)."""
    state, states = np.zeros((SAMPLES, NODES)), []
    for step in range(STEPS):
        earlier = u[step - 1] if step else np.zeros_like(u[0])
        driven = state @ matrices.recurrent.toarray().T + np.hstack([u[step], earlier]) @ matrices.input.T
        driven += matrices.bias + (noise if step == NOISY_STEP else 0)
        moved = (1 - leak) * state + leak * np.tanh(driven)
        running = np.arange(SAMPLES)[:, None] < ROWS[step]
        state = np.where(running, moved, state)
        states.append(state)
    return states


def _run(
    name: str, kernel: Kernel, u: NDArray[np.float64], noise: NDArray[np.float64], expected: list[NDArray[np.float64]]
) -> None:
    inputs = torch.from_numpy(u).to(kernel.device, kernel.dtype)
    drawn = torch.from_numpy(noise).to(kernel.device, torch.float32)
    for step, rows in enumerate(ROWS):
        parts = [inputs[step - back, :rows] for back in range(min(2, step + 1))]
        states: Any = kernel.step(parts, drawn[:rows] if step == NOISY_STEP else None)
        if not isinstance(states, torch.Tensor) or states.shape != (SAMPLES, NODES):
            result = f"shape {tuple(states.shape)}" if isinstance(states, torch.Tensor) else type(states).__name__
            raise _broken(name, f"step returned {result}; expected a tensor (batch, nodes) = {(SAMPLES, NODES)}")
        if states.dtype not in (torch.float32, kernel.dtype):
            raise _broken(name, f"step returned {states.dtype}; expected torch.float32 or the class's {kernel.dtype}")
        difference = float(np.abs(states[:rows].double().cpu().numpy() - expected[step][:rows]).max())
        if not difference <= LARGEST_DIFFERENCE:
            raise _broken(
                name,
                f"the states after step {step + 1} of a trial with {rows} of {SAMPLES} samples still running"
                f"{' and noise' if step == NOISY_STEP else ''} differ from eq. 9 by {difference:.3g}; expected at most "
                f"{LARGEST_DIFFERENCE:g}",
            )


def _broken(name: str, what: str) -> InputError:
    return InputError(f"reservoir.kernel = {name!r}: {what} (docs/extending.md)")
