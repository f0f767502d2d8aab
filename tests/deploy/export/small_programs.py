"""A small program for every kind of operation, with random constants: what each writer is tested with."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from rcdp_hpc.deploy.export.program import KINDS, Op, Program
from rcdp_hpc.model.packing import Quantized

ROWS = 5
STEPS = 9
FEATURES = 4


@dataclass(frozen=True)
class Case:
    """A program whose output is a row of numbers, and samples for it."""

    program: Program
    samples: np.ndarray
    lengths: np.ndarray | None = None

    @property
    def expected(self) -> np.ndarray:
        """What NumPy makes of the samples."""
        return self.program.run(self.samples, self.lengths)


def random(*shape: int, seed: int = 1, dtype: str = "float32") -> np.ndarray:
    """Return standard normal numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def case(shape, *ops, constants=None, varying=False, dtype="float32", seed=1) -> Case:
    """Return a case: `ops` are (kind, inputs, settings), each reading the one before as ``x``."""
    listed, before = [], "samples"
    lengths = ("lengths",) if varying else ()
    for number, (kind, inputs, settings) in enumerate(ops):
        names = tuple(before if name == "x" else name for name in inputs)
        names = tuple(one for name in names for one in (lengths if name == "lengths" else (name,)))
        listed.append(Op(kind, names, f"value {number}", settings))
        before = f"value {number}"
    program = Program(tuple(shape), (), tuple(listed), constants or {}, before, varying, dtype)
    width = int(np.prod(program.shapes()[before]))
    listed.append(Op("reshape", (before,), "output", {"shape": [width]}))
    names = tuple(f"class {number}" for number in range(width))
    program = replace(program, classes=names, ops=tuple(listed), output="output")
    samples = random(ROWS, *shape, seed=seed, dtype=dtype)
    steps = np.array([STEPS, 3, 6, 4, STEPS]) if varying else None
    return Case(program, samples, steps)


def _affine(axis, **constants):
    return [("affine", ("x", "center", "scale", "offset"), {"axis": axis, "double": False})], constants


def _csr(nodes: int, quantized: bool = False, few: float = 0.3) -> dict:
    dense = random(nodes, nodes, seed=2) * (random(nodes, nodes, seed=3) > few) * 0.4
    rows, columns = np.nonzero(dense)
    starts = np.searchsorted(rows, np.arange(nodes + 1)).astype(np.int32)
    data = dense[rows, columns]
    if quantized:
        one = Quantized.of(data[None])
        data = Quantized(one.codes[0], one.scale, 0)
    return {"data": data, "indices": columns.astype(np.int32), "indptr": starts}


def _reservoir(nodes=7, activation="tanh", leaks=1, quantized=False, few=0.3, **weights):
    constants = _csr(nodes, quantized, few) | {
        "input": random(nodes, FEATURES), "bias": random(nodes), "leak": np.abs(random(leaks)) % 1,
    } | weights  # fmt: skip
    inputs = ("x", "data", "indices", "indptr", "input", "bias", "leak")
    return ("reservoir", inputs, {"activation": activation}), constants


def _linear(outputs, inputs, **other):
    return {"weight": random(outputs, inputs), "bias": random(outputs)} | other


def _by_element(name, **settings):
    before = [("activation", ("x",), {"name": "relu"})] if name in ("power",) else []
    if name == "log":
        before = [("activation", ("x",), {"name": "sigmoid"})]
    return case((FEATURES, 3), *before, ("activation", ("x",), {"name": name, **settings}))


def _reduce(name, varying=True, **settings):
    return case((STEPS, FEATURES), ("reduce", ("x", "lengths"), {"name": name, **settings}), varying=varying)


def _kernels(channels, varying=False):
    rows = 3
    chosen = [[sorted({r % channels, (r + pair) % channels}) for pair in range(28)] for r in range(rows)]
    settings = {"dilations": [1, 1, 2][:rows], "inner": [0, 1, 1], "channels": chosen if channels > 1 else None}
    return case(
        (STEPS * 2, channels),
        ("kernels", ("x", "biases", "lengths"), settings),
        constants={"biases": random(rows, 84)},
        varying=varying,
    )


def _steps(kind, varying, **settings):
    """Return an operation on steps whose result is a series, reduced to values."""
    end = {"name": "mean", "warm_up": 0} if varying else {"name": "steps", "steps": list(range(STEPS))}
    inputs = ("x",) if kind == "delay" else ("x", "lengths")
    return case((STEPS, FEATURES), (kind, inputs, settings), ("reduce", ("x", "lengths"), end), varying=varying)


MATRIX = _linear(6, FEATURES)
SPARSE = MATRIX["weight"] * (np.abs(MATRIX["weight"]) > 1.2)
GATES = {"weight": random(12, FEATURES), "hidden": random(12, 3, seed=2), "bias": random(12), "inner": random(12)}
GRU_GATES = {name: values[:9] for name, values in GATES.items()}
MAPS = (3, 6, 5)


def cases() -> dict[str, Case]:
    """Return all cases by name; the first word is the kind of the operation."""
    filled = case((3, FEATURES), ("fill", ("x", "values"), {}), constants={"values": random(FEATURES, dtype="float64")})
    filled.samples[1, 2, 3] = filled.samples[0, 0, 0] = np.nan
    wide = case(
        (3, FEATURES),
        ("fill", ("x", "values"), {}),
        ("slice", ("x",), {"axis": 1, "start": 1, "stop": 3, "step": 1}),
        ("affine", ("x", "center", "scale", "offset"), {"axis": 2, "double": True}),
        constants={
            "values": np.zeros(FEATURES), "center": random(FEATURES, dtype="float64") + 1e9, "scale": np.array([2.0]),
            "offset": np.array([0.5]),
        },
        dtype="float64",
    )  # fmt: skip
    wide.samples[:] += 1e9
    along, constants = _affine(1, center=random(3), scale=random(3, seed=2), offset=np.zeros(1, np.float32))
    one, single = _affine(2, center=np.ones(1, np.float32), scale=np.full(1, 2, np.float32), offset=random(1))
    plain, weights = _reservoir()
    leaky, leaky_weights = _reservoir(activation="sigmoid", leaks=7)
    rounded, rounded_weights = _reservoir(
        activation="relu", quantized=True, input=Quantized.of(random(7, FEATURES))
    )  # fmt: skip
    full, full_weights = _reservoir(few=-9.0)
    full_codes, full_code_weights = _reservoir(quantized=True, few=-9.0)
    last = ("reduce", ("x", "lengths"), {"name": "steps", "steps": [-1, 2]})
    oscillators = {
        "along": random(5) * 0.4, "across": random(5, seed=2) * 0.4, "input": random(5, FEATURES),
        "mixing": random(6, 10), "bias": random(6), "leak": np.full(1, 0.7, np.float32),
    }  # fmt: skip
    diagonal = ("diagonal_reservoir", ("x", *oscillators), {"activation": "identity"})
    found = {
        "fill": filled,
        "fill and affine of float64": wide,
        "affine along axis 1": case((3, FEATURES), *along, constants=constants),
        "affine of one number": case((3, FEATURES), *one, constants=single),
        "reshape": case((3, FEATURES), ("reshape", ("x",), {"shape": [2, 6]})),
        "transpose": case((2, 3, 5), ("transpose", ("x",), {"axes": [3, 1, 2]})),
        "slice": case((7, 3), ("slice", ("x",), {"axis": 1, "start": 1, "stop": 6, "step": 2})),
        "gather": case((7, 3), ("gather", ("x", "at"), {"axis": 1}), constants={"at": np.array([6, 0, 0, 3])}),
        "concat": case(
            (3, FEATURES),
            ("activation", ("x",), {"name": "tanh"}),
            ("concat", ("x", "samples", "x"), {"axis": 2}),
        ),
        "add a constant": case((3, FEATURES), ("add", ("x", "y"), {}), constants={"y": random(3, FEATURES)}),
        "add a row": case((2, 3, FEATURES), ("add", ("x", "y"), {}), constants={"y": random(FEATURES)}),
        "add a column": case((2, 3, FEATURES), ("add", ("x", "y"), {}), constants={"y": random(2, 1, FEATURES)}),
        "multiply by values": case(
            (STEPS, FEATURES), ("reduce", ("x",), {"name": "mean", "warm_up": 2}), ("multiply", ("samples", "x"), {})
        ),
        "activation identity": _by_element("identity"),
        "activation tanh": _by_element("tanh"),
        "activation sigmoid": _by_element("sigmoid"),
        "activation relu": _by_element("relu", slope=0.1),
        "activation gelu": _by_element("gelu"),
        "activation clip": _by_element("clip", low=-0.5, high=None),
        "activation power": _by_element("power", exponent=0.5),
        "activation log": _by_element("log"),
        "linear": case((3, FEATURES), ("linear", ("x", "weight", "bias"), {}), constants=MATRIX),
        "linear with zeros": case(
            (3, FEATURES), ("linear", ("x", "weight", "bias"), {}), constants=MATRIX | {"weight": SPARSE}
        ),
        "linear of codes": case(
            (3, FEATURES),
            ("linear", ("x", "weight", "bias"), {}),
            constants=MATRIX | {"weight": Quantized.of(MATRIX["weight"])},
        ),
        "linear of few codes": case(
            (3, FEATURES),
            ("linear", ("x", "weight", "bias"), {}),
            constants=MATRIX | {"weight": Quantized.of(SPARSE)},
        ),
        "linear of codes by column": case(
            (3, FEATURES),
            ("linear", ("x", "weight", "bias"), {}),
            constants=MATRIX | {"weight": Quantized.of(MATRIX["weight"], axis=1)},
        ),
        "conv2d": case(
            MAPS,
            ("conv2d", ("x", "kernels", "bias"), {"stride": [1, 1], "padding": [1, 1]}),
            constants={"kernels": random(2, 3, 3, 3), "bias": random(2)},
        ),
        "conv2d with strides": case(
            MAPS,
            ("conv2d", ("x", "kernels", "bias"), {"stride": [2, 3], "padding": [0, 2]}),
            constants={"kernels": Quantized.of(random(2, 3, 2, 3)), "bias": random(2)},
        ),
        "max_pool": case(MAPS, ("max_pool", ("x",), {"size": [2, 3]})),
        "layer_norm": case(
            (3, FEATURES),
            ("layer_norm", ("x", "scale", "offset"), {"epsilon": 1e-5}),
            constants={"scale": random(FEATURES), "offset": random(FEATURES)},
        ),
        "attention": case((STEPS, 12), ("attention", ("x",), {"heads": 2})),
        "lstm": case((STEPS, FEATURES), ("lstm", ("x", "weight", "hidden", "bias"), {}), constants=GATES),
        "lstm of codes": case(
            (STEPS, FEATURES),
            ("lstm", ("x", "weight", "hidden", "bias"), {}),
            constants=GATES | {"hidden": Quantized.of(GATES["hidden"])},
        ),
        "gru": case((STEPS, FEATURES), ("gru", ("x", *GRU_GATES), {}), constants=GRU_GATES),
        "softmax": case((FEATURES,), ("softmax", ("x",), {})),
        "shares": case((FEATURES,), ("shares", ("x",), {"least": 1e-6, "shift": False})),
        "shares with shift": case((2,), ("shares", ("x",), {"least": 1e-6, "shift": True}), seed=3),
        "weighted_sum": case(
            (3, FEATURES),
            ("activation", ("x",), {"name": "tanh"}),
            ("weighted_sum", ("samples", "x"), {"weights": [0.25, 0.75]}),
        ),
        "blank": _steps("blank", varying=True),
        "windows": case((STEPS, FEATURES), ("windows", ("x",), {"size": 4, "stride": 2})),
        "window_lengths of unequal series": case(
            (STEPS, FEATURES),
            ("window_lengths", ("lengths",), {"size": 2, "stride": 2}),
            ("windows", ("samples",), {"size": 2, "stride": 2}),
            ("reduce", ("x", "value 0"), {"name": "max", "warm_up": 0}),
            varying=True,
        ),
        "standardise_series": _steps("standardise_series", varying=False, least=1e-12),
        "standardise_series of unequal series": _steps("standardise_series", varying=True, least=1e-12),
        "differences": _steps("differences", varying=False, scaling=0.5),
        "differences of unequal series": _steps("differences", varying=True, scaling=0.0),
        "reverse": _steps("reverse", varying=False),
        "reverse of unequal series": _steps("reverse", varying=True),
        "delay": _steps("delay", varying=False, window=3),
        "delay of unequal series": _steps("delay", varying=True, window=3),
        "reservoir": case((STEPS, FEATURES), plain, constants=weights),
        "reservoir with leaks": case((STEPS, FEATURES), leaky, constants=leaky_weights),
        "reservoir of codes": case((STEPS, FEATURES), rounded, last, constants=rounded_weights),
        "reservoir without zeros": case((STEPS, FEATURES), full, constants=full_weights),
        "reservoir of codes without zeros": case((STEPS, FEATURES), full_codes, constants=full_code_weights),
        "reservoir of unequal series": case((STEPS, FEATURES), plain, last, constants=weights, varying=True),
        "diagonal_reservoir": case((STEPS, FEATURES), diagonal, last, constants=oscillators, varying=True),
        "reduce to steps": _reduce("steps", steps=[0, -1, 2]),
        "reduce to spaced steps": _reduce("spaced", count=2, warm_up=1),
        "reduce to the mean": _reduce("mean", warm_up=2),
        "reduce to the deviation": _reduce("std", warm_up=1),
        "reduce to the maximum": _reduce("max", warm_up=1),
        "reduce to positive shares": _reduce("positive", warm_up=0),
        "reduce to segments": _reduce("segments", count=4, warm_up=1),
        "reduce to segments of equal series": _reduce("segments", varying=False, count=4, warm_up=1),
        "reduce to all steps": _reduce("all", count=STEPS, warm_up=0),
        "kernels": _kernels(1),
        "kernels of several channels": _kernels(3),
        "kernels of unequal series": _kernels(2, varying=True),
        "reshape of steps": case(
            (STEPS, FEATURES),
            ("reshape", ("x",), {"shape": [-1, 2, 2]}),
            ("reshape", ("x",), {"shape": [-1, FEATURES]}),
            ("activation", ("x",), {"name": "tanh"}),
            ("reduce", ("x", "lengths"), {"name": "max", "warm_up": 0}),
            varying=True,
        ),
    }  # fmt: skip
    missing = set(KINDS) - {name.split()[0] for name in found}
    assert not missing, missing
    return found


def joined(cases: dict[str, Case]) -> list[tuple[dict[str, slice], Case]]:
    """Return a few programs that hold all cases, each with the places of every case in its output."""
    groups: dict[tuple, dict[str, Case]] = {}
    for name, one in cases.items():
        shape = one.program.sample_shape if one.program.varying_steps else ()
        groups.setdefault((one.program.sample_dtype, shape), {})[name] = one
    return [_joined(group, dtype, shape) for (dtype, shape), group in groups.items()]


def _joined(cases: dict[str, Case], dtype: str, shape: tuple[int, ...]) -> tuple[dict[str, slice], Case]:
    """Return one program of cases. Without the shape of series, a sample is the samples of all cases in a row."""
    ops: list[Op] = []
    constants: dict = {}
    places: dict[str, slice] = {}
    first = next(iter(cases.values()))
    start = width = 0
    for name, one in cases.items():
        program, size = one.program, int(np.prod(one.program.sample_shape))
        names = {value: f"{name}: {value}" for value in ["samples", *program.constants]}
        names |= {op.output: f"{name}: {op.output}" for op in program.ops}
        if shape:
            names |= {"samples": "samples", "lengths": "lengths"}
        else:
            part = {"axis": 1, "start": start, "stop": start + size, "step": 1}
            ops.append(Op("slice", ("samples",), f"{name}: part", part))
            ops.append(Op("reshape", (f"{name}: part",), names["samples"], {"shape": list(program.sample_shape)}))
        ops += [
            Op(op.kind, tuple(names[value] for value in op.inputs), names[op.output], op.settings) for op in program.ops
        ]
        constants |= {names[value]: constant for value, constant in program.constants.items()}
        places[name] = slice(width, width + len(program.classes))
        start, width = start + size, width + len(program.classes)
    ops.append(Op("concat", tuple(f"{name}: output" for name in cases), "output", {"axis": 1}))
    samples = np.concatenate([one.samples.reshape(ROWS, -1) for one in cases.values()], axis=1)
    classes = tuple(map(str, range(width)))
    program = Program(shape or (start,), classes, tuple(ops), constants, "output", bool(shape), dtype)
    return places, Case(program, first.samples if shape else samples, first.lengths)
