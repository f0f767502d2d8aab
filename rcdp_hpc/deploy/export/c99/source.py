"""The text of an exported C file."""

from __future__ import annotations

import math
from pathlib import Path
from string import Template

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.c99 import library
from rcdp_hpc.deploy.export.c99.emission import Emission, number_type_of
from rcdp_hpc.deploy.export.c99.operations import OPERATIONS
from rcdp_hpc.deploy.export.c99.text import array, comment, literal
from rcdp_hpc.deploy.export.c99.values import Slots
from rcdp_hpc.deploy.export.check_samples import CheckSamples
from rcdp_hpc.deploy.export.program import Program

FRAME = Path(__file__).with_name("frame.c")


def source(program: Program, tests: CheckSamples, name: str) -> str:
    """Return the text of a C file.

    Parameters
    ----------
    program : Program
    tests : CheckSamples
        What the file's `main` predicts.
    name : str
        Name of the file, for its comment.

    Raises
    ------
    InputError
        If an operation has no form in C.
    """
    code = Emission(program)
    for place, op in enumerate(program.ops):
        code.number = place
        OPERATIONS[op.kind](code, op)
    number = number_type_of(program)
    return Template(FRAME.read_text(encoding="utf-8")).substitute(
        **_texts(program, name, number),
        number=number,
        classes=len(program.classes),
        column="unsigned short" if code.short_columns() else "int",
        names="\n".join(f"    {literal(label)}," for label in program.classes),
        weights=f"{_numbers(program)} numbers are stored.",
        constants="\n".join(code.definitions),
        functions="\n".join(library.texts(code.used)),
        memory="\n".join(_memory(code)),
        check=_check(program),
        body="\n".join(code.lines),
        output=code.values[program.output].variable,
        decision=code.values[program.decides_by].variable,
        tests=len(tests.samples),
        samples=_test_arrays(tests),
    )


def _texts(program: Program, name: str, number: str) -> dict[str, str]:
    """Return the texts that describe samples."""
    shape = program.sample_shape
    values = math.prod(shape[1:]) if program.varying_steps else math.prod(shape)
    axes = " x ".join(map(str, shape[1:] if program.varying_steps else shape))
    texts = {
        "title": comment(f"{name}: {len(program.classes)} classes"),
        "file": comment(name),
        "sizes": f"#define RCDP_VALUES {values}\n#define RCDP_MAX_VALUES RCDP_VALUES",
        "sample": f"{values} raw numbers, as in the source of the training data: {axes} in C order",
        "steps": "not read: all samples have the same shape",
        "line": f"{values} numbers with commas",
        "expected": str(values),
    }
    if program.varying_steps:
        texts |= {
            "sizes": (
                "/* The longest series; -DRCDP_MAX_STEPS=1000 accepts longer ones and takes more memory. */\n"
                f"#ifndef RCDP_MAX_STEPS\n#define RCDP_MAX_STEPS {shape[0]}\n#endif\n"
                f"#define RCDP_VALUES {values}\n#define RCDP_MAX_VALUES (RCDP_MAX_STEPS * RCDP_VALUES)"
            ),
            "sample": f"raw numbers, as in the source of the training data: for each step {axes} in C order",
            "steps": "number of steps, at most RCDP_MAX_STEPS",
            "line": f"{values} numbers of a step, then those of the next one, with commas",
            "expected": f"a multiple of {values} for at most RCDP_MAX_STEPS steps",
        }
    return texts


def _numbers(program: Program) -> int:
    """Return how many numbers of the constants are not 0."""
    return sum(int(np.count_nonzero(program.array(name))) for name in program.constants)


def _memory(code: Emission) -> list[str]:
    """Return the declarations of the arrays of values, and of a pointer for each value."""
    slots, names = Slots.of(code.storages)
    pointers = [
        f"    {storage.c_type} *{storage.variable} = {name};"
        for storage, name in zip(code.storages, names, strict=True)
    ]
    return slots.declarations() + pointers


def _check(program: Program) -> str:
    if not program.varying_steps:
        return "    (void)steps;"
    return "    if (steps < 1 || steps > RCDP_MAX_STEPS)\n        return 1;"


def _test_arrays(tests: CheckSamples) -> str:
    """Return the arrays of the check; a series shorter than the longest one is followed by zeros."""
    samples: NDArray[np.generic] = tests.samples.reshape(len(tests.samples), -1)
    return "\n".join(
        [
            f"#define TEST_VALUES {samples.shape[1]}",
            array("test_samples", samples),
            array("test_steps", tests.steps),
            array("test_probabilities", tests.probabilities),
        ]
    )
