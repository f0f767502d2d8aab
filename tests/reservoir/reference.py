"""Eq. 9 in float64 NumPy, sample by sample and step by step, for every option of the engine."""

from __future__ import annotations

import numpy as np
import torch

from rcdp_hpc.reservoir.stacked import StackedReservoirs, sequences

F = {
    "tanh": np.tanh,
    "sigmoid": lambda v: 1 / (1 + np.exp(-v)),
    "relu": lambda v: np.maximum(v, 0),
    "identity": lambda v: v,
}


def drive(settings, matrices, sequence, rates=None):
    """Return the states after each step, shape (steps, nodes)."""
    leak = settings.leak if rates is None else rates
    state, states = np.zeros(settings.nodes), []
    recurrent = matrices.recurrent.toarray()
    for u in sequence:
        moved = F[settings.activation](recurrent @ state + matrices.input @ u + matrices.bias)
        state = (1 - leak) * state + leak * moved
        states.append(state)
    return np.array(states)


def windowed(sequence, window):
    padded = np.concatenate([np.zeros((window - 1, sequence.shape[1])), sequence])
    return np.array([np.concatenate(padded[t : t + window][::-1]) for t in range(len(sequence))])


def reduced(settings, states):
    return np.concatenate([reduced_once(settings, states, name) for name in settings.reduction])


def reduced_once(settings, states, name):
    length, warm = len(states), settings.warm_up
    counted = states[warm:]
    if name == "mean":
        return counted.mean(0)
    if name == "std":
        return counted.std(0)
    if name == "mean_std":
        return np.concatenate([counted.mean(0), counted.std(0)])
    if name == "last":
        return states[-1]
    if name == "max":
        return counted.max(0)
    if name == "positive":
        return (counted > 0).mean(0)
    if name == "segments":
        k, left = settings.segments, len(counted)
        bounds = [(j * left // k, (j + 1) * left // k) for j in range(k)]
        return np.concatenate([counted[a : max(b, a + 1)].mean(0) for a, b in bounds])
    if settings.steps:
        return np.concatenate([states[step] for step in settings.steps])
    positions = [warm + (i + 1) * (length - warm) // settings.states - 1 for i in range(settings.states)]
    return np.concatenate([states[step] for step in positions])


def read(settings, sequence):
    """Return the input that drives the reservoir for one sequence."""
    if settings.series_scaling == "standard":
        varies = sequence.max(0) > sequence.min(0)
        deviation = np.where(varies, sequence.std(0), 1)
        sequence = np.where(varies, (sequence - sequence.mean(0)) / deviation, 0)
    if not settings.differences:
        return sequence
    steps = np.diff(sequence, axis=0, prepend=sequence[:1])
    size = np.sqrt((steps[1:] ** 2).mean(0)) if len(steps) > 1 else np.zeros(sequence.shape[1])
    factor = settings.difference_scaling or np.where(size > 0, 1 / np.where(size > 0, size, 1), 0)
    if any(scan.startswith(("rows", "columns")) for scan in settings.scans):
        half = sequence.shape[1] // 2
        pairs = [(sequence[:, own], (steps * factor)[:, own]) for own in (slice(half), slice(half, None))]
        return np.concatenate([part for pair in pairs for part in pair], axis=1)
    return np.concatenate([sequence, steps * factor], axis=1)


def expected(reservoir, u, lengths=None):
    """Return the expected result of `Reservoir.states`, float64."""
    settings, rows = reservoir.settings, []
    for row, sequence in enumerate(np.asarray(u, dtype=np.float64)):
        sequence = sequence if lengths is None else sequence[: lengths[row]]
        sequence = read(settings, sequence)
        half = sequence.shape[1] // 2
        parts = []
        for scan, layers in zip(
            settings.scans or ["forward"], zip(reservoir.matrices, reservoir.rates, strict=True), strict=True
        ):
            sequence_read = sequence
            if scan.startswith("rows"):
                sequence_read = sequence[:, :half]
            elif scan.startswith("columns"):
                sequence_read = sequence[:, half:]
            for turned in (False, True) if settings.bidirectional else (False,):
                inputs = windowed(
                    sequence_read[::-1] if scan.endswith("backward") != turned else sequence_read, settings.window
                )
                for matrices, rates in zip(*layers, strict=True):
                    inputs = drive(settings, matrices, inputs, rates)
                    parts.append(reduced(settings, inputs))
        rows.append(np.concatenate(parts))
    return np.array(rows)


def driven_together(reservoirs, x):
    """Return the features of single reservoirs of one shape, driven by the same samples in common products."""
    kernels = [reservoir.only_kernel for reservoir in reservoirs]
    leaks = torch.stack([torch.as_tensor(kernel.leak, dtype=torch.float32).view(-1) for kernel in kernels])
    weights = torch.stack([kernel.stacked_weights() for kernel in kernels])
    names = [kernel.activation_name for kernel in kernels]
    return StackedReservoirs(reservoirs[0], weights, leaks, names).drive(sequences(reservoirs[0], x))
