"""The interface of an export format."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.program import KINDS, Program
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile

Probabilities = NDArray[np.float32]


class Writer(ABC):
    """An export format. Subclasses are instantiated without arguments.

    Attributes
    ----------
    name : str
        The suffix of the files, for messages.
    operations : collection of str
        Kinds of operations that the format can write (`rcdp_hpc.deploy.export.program.KINDS`).
    holds_rule : bool
        Whether a file holds the rule of the answers itself, and not operations of it.
    """

    name: str
    operations: Collection[str] = KINDS
    holds_rule: bool = False

    def check(self, program: Program) -> None:
        """Refuse a program that the format cannot write, before anything is written.

        Raises
        ------
        InputError
            If an operation of the program is not one of `operations`, or a dependency is missing.
        """
        missing = [kind for kind in program.kinds if kind not in self.operations]
        if missing:
            raise InputError(
                f"{self.name}: cannot hold the operation {missing[0]!r} of this model (docs/export.md). Export it as "
                ".npz, which holds all of them."
            )

    @abstractmethod
    def write(self, program: Program, model: ModelFile, path: Path) -> list[Path]:
        """Write a model, each file atomically.

        Parameters
        ----------
        program : Program
            What to compute.
        model : ModelFile
            The model that the program was made from.
        path : Path
            The file to write.

        Returns
        -------
        list of Path
            All files that were written, `path` first.
        """

    @abstractmethod
    def predict(self, path: Path, samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities | None:
        """Return the probabilities that a written file gives for raw samples, shape (rows, classes).

        The check compares them with those of the model. None if what runs such files is not installed.

        Parameters
        ----------
        path : Path
            As of `write`.
        samples : ndarray, shape (rows, *sample_shape)
            Raw samples, of the program's `sample_dtype`.
        lengths : ndarray of int64, shape (rows,), or None
            Steps of each series, exactly if the program has `varying_steps`.
        """
