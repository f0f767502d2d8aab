"""Small programs, one for each way that an operation can be used; the tests of a format run all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse

from rcdp_hpc.deploy.export.program import LENGTHS, Constant, Op, Program
from rcdp_hpc.model.packing import Quantized

SERIES = (11, 3)
RNG = np.random.default_rng(3)


@dataclass(frozen=True)
class Case:
    """An operation, its constants, and the shape of the samples that it reads; `series`: also of unequal length."""

    kind: str
    settings: dict[str, Any] = field(default_factory=dict)
    constants: tuple[Constant, ...] = ()
    shape: tuple[int, ...] = SERIES
    series: bool = False
    dtype: str = "float32"

    @property
    def name(self) -> str:
        named = [self.settings[key] for key in ("name", "activation") if key in self.settings]
        return "-".join([self.kind, *map(str, named)])

    def program(self, varying: bool) -> Program:
        """Return a program of the operation, whose values are the output."""
        constants = {f"constant{number}": constant for number, constant in enumerate(self.constants)}
        ends = [LENGTHS] if varying and self.kind not in CAUSAL else []
        op = Op(self.kind, ("samples", *constants, *ends), "result", self.settings)
        flat = Op("reshape", ("result",), "flat", {"shape": [-1]})
        blank = [Op("blank", ("result", LENGTHS), "blanked")] if varying and self.kind in STEPS else []
        if blank:
            flat = Op("reshape", ("blanked",), "flat", {"shape": [-1]})
        program = Program(self.shape, ("a",), (op, *blank, flat), constants, "flat", varying, self.dtype)
        return Program(
            self.shape, tuple(map(str, range(program.shapes()["flat"][0]))), program.ops, constants, "flat", varying,
            self.dtype,
        )  # fmt: skip

    def samples(self, rows: int = 7) -> np.ndarray:
        samples = np.random.default_rng(5).normal(size=(rows, *self.shape))
        if self.kind == "fill":
            samples[samples > 1] = np.nan
        if self.settings.get("name") == "power":
            samples = np.abs(samples)
        if self.kind == "standardise_series":
            samples[1, :, 0] = 3
        return samples.astype(self.dtype)


# Operations that read no lengths, and those whose results hold any values after the end of a series.
CAUSAL = ("reservoir", "diagonal_reservoir", "delay", "affine", "lstm", "gru", "windows")
STEPS = ("reverse", "reservoir", "diagonal_reservoir", "delay")


def numbers(*shape: int, scale: float = 0.5) -> np.ndarray:
    return (RNG.normal(size=shape) * scale).astype(np.float32)


def csr(nodes: int, density: float, quantized: bool = False) -> tuple[Constant, ...]:
    """Return the constants of a connection matrix."""
    matrix = scipy.sparse.random(nodes, nodes, density, "csr", np.float32, random_state=2)
    matrix.data -= 0.5
    data = Quantized.of(matrix.data[None])
    values = Quantized(data.codes[0], data.scale) if quantized else matrix.data
    return values, matrix.indices.astype(np.int32), matrix.indptr.astype(np.int32)


def many_cases() -> Iterator[Case]:
    """Yield a case for each operation and setting."""
    yield Case("fill", {}, (np.array([1.0, 2.0, 3.0]),))
    affine = (np.array([1.0, 0.5, 0.0]), np.array([2.0, 0.1, 1.0]), np.array([0.0, 0.1, 3.0]))
    yield Case("affine", {"axis": 2, "double": True}, affine, dtype="float64")
    yield Case("affine", {"axis": 1, "double": False}, (numbers(4), numbers(4), numbers(4)), shape=(4, 3, 2))
    yield Case("affine", {"axis": 2, "double": False}, (numbers(1), numbers(1), numbers(1)))
    yield Case("reshape", {"shape": [3, 11]})
    yield Case("transpose", {"axes": [3, 1, 2]}, shape=(4, 3, 2))
    yield Case("slice", {"axis": 1, "start": 1, "stop": 9, "step": 3})
    yield Case("gather", {"axis": 1}, (np.array([4, 4, 0]),))
    yield Case("add", {}, (numbers(3),))
    yield Case("multiply", {}, (numbers(11, 1),))
    for name, settings in {
        "identity": {}, "tanh": {}, "sigmoid": {}, "relu": {}, "gelu": {}, "clip": {"low": -0.5, "high": None},
        "power": {"exponent": 0.75},
    }.items():  # fmt: skip
        yield Case("activation", {"name": name, **settings})
    yield Case("activation", {"name": "relu", "slope": 0.1})
    yield Case("activation", {"name": "clip", "low": -0.5, "high": 0.5})
    yield Case("linear", {}, (numbers(5, 6), numbers(5)), shape=(6,))
    yield Case("linear", {}, (Quantized.of(numbers(5, 6)), numbers(5)), shape=(6,))
    yield Case("linear", {}, (Quantized.of(numbers(5, 3)), numbers(5)))
    sparse = numbers(40, 60)
    sparse[RNG.random(sparse.shape) < 0.9] = 0
    yield Case("linear", {}, (sparse, numbers(40)), shape=(60,))
    yield Case("linear", {}, (Quantized.of(sparse), numbers(40)), shape=(60,))
    yield Case("conv2d", {"stride": [2, 1], "padding": [1, 0]}, (numbers(4, 2, 3, 2), numbers(4)), shape=(2, 7, 6))
    yield Case(
        "conv2d", {"stride": [1, 1], "padding": [0, 1]}, (Quantized.of(numbers(4, 2, 1, 3)), numbers(4)), (2, 1, 6)
    )
    yield Case("max_pool", {"size": [2, 3]}, shape=(2, 7, 6))
    yield Case("layer_norm", {"epsilon": 1e-5}, (numbers(3), numbers(3)))
    yield Case("attention", {"heads": 2}, shape=(5, 24))
    yield Case("lstm", {}, (numbers(16, 3), numbers(16, 4), numbers(16)))
    yield Case("lstm", {}, (Quantized.of(numbers(16, 3)), Quantized.of(numbers(16, 4)), numbers(16)))
    yield Case("gru", {}, (numbers(12, 3), numbers(12, 4), numbers(12), numbers(12)))
    yield Case("softmax", shape=(5,))
    yield Case("shares", {"least": 1e-6, "shift": False}, shape=(5,))
    yield Case("shares", {"least": 0.9, "shift": True}, shape=(3,))
    yield Case("blank", series=True)
    yield Case("windows", {"size": 4, "stride": 2})
    yield Case("standardise_series", {"least": 0.0}, series=True)
    yield Case("standardise_series", {"least": 1.0}, series=True)
    yield Case("differences", {"scaling": 0.5}, series=True)
    yield Case("differences", {"scaling": 0}, series=True)
    yield Case("reverse", series=True)
    yield Case("delay", {"window": 1}, series=True)
    yield Case("delay", {"window": 3}, series=True)
    rest = (numbers(20, 3), numbers(20), np.array([0.3], np.float32))
    for name in ("identity", "tanh", "sigmoid", "relu"):
        yield Case("reservoir", {"activation": name}, (*csr(20, 0.1), *rest), series=True)
    yield Case("reservoir", {"activation": "tanh"}, (*csr(20, 0.9, quantized=True), *rest[:2], np.ones(1, np.float32)))
    leaks = np.linspace(0.1, 1, 20, dtype=np.float32)
    yield Case("reservoir", {"activation": "tanh"}, (*csr(20, 0.3), *rest[:2], leaks))
    oscillators = (numbers(4), numbers(4), numbers(4, 3), numbers(20, 8), numbers(20), leaks)
    yield Case("diagonal_reservoir", {"activation": "tanh"}, oscillators, series=True)
    codes = (*oscillators[:3], Quantized.of(oscillators[3]), *oscillators[4:])
    yield Case("diagonal_reservoir", {"activation": "sigmoid"}, codes)
    for settings in (
        {"name": "steps", "steps": [0, -1, 3, -2]}, {"name": "steps", "steps": [-1]},
        {"name": "spaced", "count": 3, "warm_up": 1}, {"name": "mean", "warm_up": 2}, {"name": "std", "warm_up": 0},
        {"name": "max", "warm_up": 1}, {"name": "positive", "warm_up": 0},
        {"name": "segments", "count": 3, "warm_up": 1}, {"name": "segments", "count": 14, "warm_up": 0},
        {"name": "all", "count": 11}, {"name": "all", "count": 5}, {"name": "all", "count": 13},
    ):  # fmt: skip
        yield Case("reduce", settings, series=True)
    one = {"dilations": [1, 3, 1], "inner": [False, True, True], "channels": None}
    yield Case("kernels", one, (numbers(3, 84, scale=2),), (40, 1), series=True)
    lists = RNG.permuted(np.tile(np.arange(3), (2, 36, 1)), axis=2)
    channels = [[[int(c) for c in pair[: 1 + number % 3]] for number, pair in enumerate(row)] for row in lists]
    yield Case(
        "kernels",
        {"dilations": [1, 2], "inner": [False, True], "channels": channels},
        (numbers(2, 84),),
        (20, 3),
        series=True,
    )


CASES = list(many_cases())
