"""Exported models as one C99 file."""

from __future__ import annotations

import csv
import logging
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.base import Probabilities, Writer
from rcdp_hpc.deploy.export.c99.operations import OPERATIONS
from rcdp_hpc.deploy.export.c99.source import source
from rcdp_hpc.deploy.export.check_samples import CheckSamples
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.files import write_text

log = logging.getLogger(__name__)

COMPILERS = ("cc", "gcc", "clang")
FLAGS = ("-std=c99", "-Wall", "-Wextra", "-Werror", "-O2")
# A number takes about 14 bytes of text, and compilers need about 200 bytes of memory for it.
MOST_NUMBERS = 2**24
SECONDS = 1800
MEBIBYTE = 2**20


class CWriter(Writer):
    """One C99 file without dependencies: weights as arrays, `rcdp_predict`, and a `main` that checks itself."""

    name = ".c"
    operations = tuple(OPERATIONS)

    def check(self, program: Program) -> None:
        """Refuse a program that is too large for a C file, or that has class names C cannot hold; as `Writer.check`."""
        super().check(program)
        numbers = sum(program.array(name).size for name in program.constants)
        if numbers > MOST_NUMBERS:
            raise InputError(
                f".c: the model has {numbers} numbers, more than the {MOST_NUMBERS} of a file that compilers accept "
                "with usual memory. Export it as .npz or .onnx, or make it smaller first (`rcdp compress`)."
            )
        for label in program.classes:
            if "\0" in label:
                raise InputError(f".c: the class {label!r} has a null character, which ends a text of C. Rename it.")

    def write(self, program: Program, model: ModelFile, path: Path) -> list[Path]:
        """Write the file, and log its size; as `Writer.write`."""
        text = source(program, CheckSamples.of(program, model), path.name)
        write_text(path, text)
        log.info("%s: %.2f MiB of C", path, len(text) / MEBIBYTE)
        return [path]

    def predict(self, path: Path, samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities | None:
        """Compile the file, let it check itself, and return its predictions; as `Writer.predict`.

        Raises
        ------
        StageFailedError
            If the file cannot be compiled, or its check fails.
        """
        compiler = next(filter(None, map(shutil.which, COMPILERS)), None)
        if compiler is None:
            return None
        with tempfile.TemporaryDirectory(prefix="rcdp-c-") as folder:
            program, table = Path(folder) / "model", Path(folder) / "samples.csv"
            _run(compiler, *FLAGS, "-o", program, path.absolute(), "-lm")
            _run(program)
            with table.open("w") as file:
                for row, sample in enumerate(samples):
                    values = sample if lengths is None else sample[: lengths[row]]
                    # The shortest texts that read back as the same numbers.
                    file.write(",".join(values.reshape(-1).astype("U").tolist()) + "\n")
            lines = _run(program, table).splitlines(keepends=True)
        return np.array([row[1:] for row in csv.reader(lines)], np.float32)


def _run(*command: str | Path) -> str:
    """Run a command and return what it prints.

    Raises
    ------
    StageFailedError
        If it fails, or takes longer than `SECONDS`.
    """
    texts = [os.fspath(part) for part in command]
    try:
        done = subprocess.run(texts, capture_output=True, text=True, timeout=SECONDS, errors="replace")
    except subprocess.TimeoutExpired:
        raise StageFailedError(
            f"{Path(command[0]).name}: ended after {SECONDS} s. To write the file without the check, add --no-check."
        ) from None
    if done.returncode:
        shown = (done.stderr or done.stdout).strip()[:2000]
        raise StageFailedError(f"{Path(command[0]).name}: exit status {done.returncode}: {shown}")
    return done.stdout
