"""The file that predictions are written to: its format, and one complete file or none."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np

from rcdp_hpc.config.choices.output_formats import OUTPUT_FORMATS
from rcdp_hpc.deploy.formats.base import Block, OutputFormat, Predictions
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.files import write_atomic
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.user_code import load_choice


def format_name(output: Path, name: str = "") -> str:
    """Return the name of an output format: the one that the user chose, or the one of the file's suffix.

    Parameters
    ----------
    output : Path
        The file to write. Upper and lower case of its suffix are the same.
    name : str
        A name of `OUTPUT_FORMATS` or ``module:Class``; empty to decide by the suffix.

    Raises
    ------
    InputError
        If the name is not accepted, `output` is a folder, or its suffix is that of no format or of another one.
    """
    if output.is_dir():
        raise InputError(f"{output}: a folder; name a file to write the predictions to.")
    by_suffix = OUTPUT_FORMATS.of_suffix(output.suffix)
    if not name:
        if by_suffix is None:
            raise InputError(
                f"{output}: predictions are written to files whose names end in {OUTPUT_FORMATS.suffixes_text()}. For "
                "another name, choose the format with --format."
            )
        return str(by_suffix.name)
    try:
        OUTPUT_FORMATS.accepted(name)
    except ValueError as error:
        raise InputError(f"--format = {name!r}: {error}") from None
    if name in OUTPUT_FORMATS and by_suffix is not None and by_suffix.name != name:
        raise InputError(
            f"{output}: the name ends in {by_suffix.suffix}, and --format is {name}. Change one of the two."
        )
    return name


@dataclass(frozen=True)
class Output:
    """A file to write predictions to.

    Attributes
    ----------
    path : Path
        The file.
    name : str
        Of the format, as `format_name` returns it.
    format : OutputFormat
    """

    path: Path
    name: str
    format: OutputFormat

    @classmethod
    def open(cls, path: Path, name: str) -> Output:
        """Import a format and instantiate it, and let it write two made-up samples into memory as a check.

        Raises
        ------
        InputError
            If the class cannot be imported or instantiated, is not an `OutputFormat`, or cannot write the samples.
        """
        format_class = load_choice(OUTPUT_FORMATS, name)
        if not (isinstance(format_class, type) and issubclass(format_class, OutputFormat)):
            raise _refused(name, f"expected a class derived from {OutputFormat.__module__}.OutputFormat, got "
                           f"{format_class!r}")  # fmt: skip
        try:
            output = cls(path, name, format_class())
        except Exception as error:  # any error of the user's class
            raise _raised(name, f"{format_class.__name__}()", error) from None
        file = io.BytesIO()
        block = Block(np.array([0, 1]), np.array([[0.75, 0.25], [0.5, 0.5]], np.float32))
        output._write(file, Predictions([block], 2, ["a", "b"], ["1", "2"]))
        if not file.getbuffer():
            raise _refused(name, "write wrote nothing for two samples")
        return output

    def write(self, predictions: Predictions) -> None:
        """Write predictions. The file gets its name when it is complete.

        Raises
        ------
        InputError
            If the format raises an error or does not read all samples.
        """
        remove_leftovers(temporary_files([self.path.parent]))
        write_atomic(self.path, lambda file: self._write(file, predictions))
        try:
            self.format.report(self.path, predictions)
        except Exception as error:  # any error of the user's class
            raise _raised(self.name, "report", error) from error

    def _write(self, file: BinaryIO, predictions: Predictions) -> None:
        rows = 0

        def counted() -> Iterator[Block]:
            nonlocal rows
            for block in predictions.blocks:
                rows += len(block)
                yield block

        try:
            self.format.write(file, replace(predictions, blocks=counted()))
        except (RcdpError, OSError, MemoryError):
            raise
        except Exception as error:  # any error of the user's class
            raise _raised(self.name, "write", error) from error
        if file.closed:
            raise _refused(self.name, "write closed its file; expected it to stay open")
        if rows != predictions.rows:
            raise _refused(self.name, f"write read {rows} of {predictions.rows} samples; expected all")


def _refused(name: str, problem: str) -> InputError:
    return InputError(f"--format = {name!r}: {problem}")


def _raised(name: str, what: str, error: Exception) -> InputError:
    return _refused(name, f"{what} raised {type(error).__name__}: {error}")
