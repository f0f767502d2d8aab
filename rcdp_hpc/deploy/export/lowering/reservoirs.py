"""Reservoirs, their scans, layers and reductions; and what replaces a reservoir."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import ReservoirSection
from rcdp_hpc.deploy.export.lowering.builder import Builder
from rcdp_hpc.deploy.export.lowering.sequences import Sequences, lower_inputs
from rcdp_hpc.reservoir.connection import ReservoirMatrices
from rcdp_hpc.reservoir.identity_source import IdentitySource
from rcdp_hpc.reservoir.kept_steps import steps_of
from rcdp_hpc.reservoir.scans import Scan
from rcdp_hpc.reservoir.states import Reservoir


def lower_reservoir(builder: Builder, reservoir: Reservoir | IdentitySource, u: Sequences) -> str:
    """Append what `Reservoir.states` does to sequences; return the name of the features (rows, width)."""
    u = lower_inputs(builder, reservoir.settings, u)
    if isinstance(reservoir, IdentitySource):
        return _rows_of(builder, u)
    values = []
    for scan, (matrices, rates) in zip(
        reservoir.scans, zip(reservoir.matrices, reservoir.rates, strict=True), strict=True
    ):
        for turned in range(reservoir.directions):
            states = _read(builder, scan, u, bool(turned))
            for layer, leaks in zip(matrices, rates, strict=True):
                states = states._replace(name=_states(builder, reservoir.settings, layer, leaks, states))
                values += _reduced(builder, reservoir, states)
    joined = values[0] if len(values) == 1 else builder.op("concat", *values, axis=1)
    return builder.op("reshape", joined, shape=[reservoir.width])


def _rows_of(builder: Builder, u: Sequences) -> str:
    """Return the sequences as rows of features, shorter ones after zeros."""
    name = builder.op("reduce", u.name, *u.lengths, name="all", count=u.steps) if u.lengths else u.name
    return builder.op("reshape", name, shape=[u.steps * u.features])


def _read(builder: Builder, scan: Scan, u: Sequences, turned: bool) -> Sequences:
    """Return the sequences as a scan reads them, with the values of earlier steps in its window."""
    name, half = u.name, u.features // 2
    if scan.name.startswith(("rows", "columns")):
        start, stop = (0, half) if scan.name.startswith("rows") else (half, u.features)
        name = builder.op("slice", name, axis=2, start=start, stop=stop, step=1)
    if scan.backward != turned:
        name = builder.op("reverse", name, *u.lengths)
    if scan.window > 1:
        name = builder.op("delay", name, window=scan.window)
    return u._replace(name=name)


def _states(
    builder: Builder,
    settings: ReservoirSection,
    matrices: ReservoirMatrices,
    rates: NDArray[np.float64] | None,
    u: Sequences,
) -> str:
    """Return the states of a layer after every step, shape (rows, steps, nodes)."""
    leaks = np.array([settings.leak]) if rates is None else rates
    if u.steps == 1 and not u.lengths and matrices.mixing is None:
        return _only_state(builder, settings, matrices, leaks, u.name)
    leak = builder.constant("reservoir.leak", leaks)
    bias = builder.constant("reservoir.bias", matrices.bias)
    recurrent = matrices.recurrent.tocsr()
    if matrices.mixing is not None:
        units = matrices.mixing.shape[1] // 2
        inputs = (
            builder.constant("reservoir.along", recurrent.diagonal()[:units]),
            builder.constant("reservoir.across", recurrent.diagonal(-units)),
            builder.constant("reservoir.input", matrices.input[:units]),
            builder.constant("reservoir.mixing", matrices.mixing),
        )
        return builder.op(
            "diagonal_reservoir", u.name, *inputs, bias, leak, result="states", activation=settings.activation
        )
    inputs = (
        builder.constant("reservoir.data", recurrent.data),
        builder.constant("reservoir.indices", recurrent.indices, np.int32),
        builder.constant("reservoir.indptr", recurrent.indptr, np.int32),
        builder.constant("reservoir.input", matrices.input),
    )
    return builder.op("reservoir", u.name, *inputs, bias, leak, result="states", activation=settings.activation)


def _only_state(
    builder: Builder,
    settings: ReservoirSection,
    matrices: ReservoirMatrices,
    leaks: NDArray[np.float64],
    u: str,
) -> str:
    """Return the state after the only step, a f(W_in u + b): with s_0 = 0 the recurrent matrix is not needed."""
    state = builder.linear(u, matrices.input, matrices.bias, name="reservoir.input")
    if settings.activation != "identity":
        more: dict[str, Any] = {"slope": 0.0} if settings.activation == "relu" else {}
        state = builder.op("activation", state, name=settings.activation, **more)
    return state if np.all(leaks == 1) else builder.affine(state, np.zeros(1), leaks, axis=2, name="reservoir.leak")


def _reduced(builder: Builder, reservoir: Reservoir, states: Sequences) -> list[str]:
    """Return the values of ``reservoir.reduction``, each of the shape (rows, values, nodes)."""
    settings, ends, warm_up = reservoir.settings, states.lengths, reservoir.settings.warm_up
    values = []
    for name in settings.reduction:
        if name == "last":
            values.append(builder.op("reduce", states.name, *ends, name="steps", steps=[-1]))
        elif name == "states" and (settings.steps or not ends):
            steps = settings.steps if ends else steps_of(settings, states.steps)
            values.append(builder.op("reduce", states.name, *ends, name="steps", steps=list(steps)))
        elif name == "states":
            values.append(
                builder.op("reduce", states.name, *ends, name="spaced", count=settings.states, warm_up=warm_up)
            )
        elif name == "all":
            alike = not ends and states.steps == reservoir.values
            values.append(
                states.name if alike else builder.op("reduce", states.name, *ends, name="all", count=reservoir.values)
            )
        elif name == "segments":
            values.append(
                builder.op("reduce", states.name, *ends, name="segments", count=settings.segments, warm_up=warm_up)
            )
        else:
            parts = ("mean", "std") if name == "mean_std" else (name,)
            values += [builder.op("reduce", states.name, *ends, name=part, warm_up=warm_up) for part in parts]
    return values
