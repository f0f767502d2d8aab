"""A model file and the exact sums next to it."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rcdp_hpc.errors import DataDamagedError, InputError
from rcdp_hpc.model.derived_file import write_derived
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.rundir import RunDirectory
from rcdp_hpc.training.solve.kept_solve import tensors_digest, with_weights
from rcdp_hpc.training.solve.kept_sums import RESTORE, KeptSums, sums_path
from rcdp_hpc.training.solve.sums_fit import fit_sums

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class SummedModel:
    """A solved readout and its sums.

    Attributes
    ----------
    path : Path
        The model file.
    file : ModelFile
    kept : KeptSums
    """

    path: Path
    file: ModelFile
    kept: KeptSums

    @staticmethod
    def read(path: Path) -> SummedModel:
        """Read a model and its sums.

        Parameters
        ----------
        path : Path
            A run directory or a model file.

        Raises
        ------
        InputError
            If there is no model, or it has no sums.
        DataDamagedError
            If a file is damaged, or the sums belong to another model.
        """
        model = model_path(path)
        file = ModelFile.read(model)
        sums = sums_path(model)
        if not sums.exists():
            raise InputError(
                f"{model}: there are no sums next to it ({sums.name}). Train it with readout.keep_sums = true, which "
                "needs a ridge readout."
            )
        kept = KeptSums.read(sums)
        if kept.facts.weights != tensors_digest(file.weights):
            raise DataDamagedError(f"{sums}: the sums of another model than {model}: files were exchanged. {RESTORE}")
        return SummedModel(model, file, kept)


@dataclass(frozen=True)
class SumsResult:
    """A readout that was solved from other sums than before.

    Attributes
    ----------
    files : list of Path
        The model and its sums.
    units, rows, validation_rows : int
        What it is solved from.
    penalty : float
    bytes : int
        Size of the sums.
    """

    files: list[Path]
    units: int
    rows: int
    validation_rows: int
    penalty: float
    bytes: int

    @property
    def summary(self) -> str:
        """The result as a sentence."""
        return (
            f"solved from the sums of {self.units} units: {self.rows} training rows and {self.validation_rows} "
            f"validation rows, penalty {self.penalty:g}; the sums have {self.bytes / 2**20:.1f} MiB"
        )


def model_path(path: Path) -> Path:
    """Return the model file of a run directory, or the path itself; an `InputError` if there is none."""
    model = RunDirectory(path).model if path.is_dir() else path
    if not model.exists():
        raise InputError(f"{model}: there is no trained model.")
    return model


def refuse_input_as_output(models: Sequence[Path], to: Path) -> None:
    """Raise an `InputError` if the output would replace one of the models."""
    for model in models:
        if model_path(model).resolve() == to.resolve():
            raise InputError(f"--to {to}: is one of the models. Choose another name.")


def write_solution(first: SummedModel, kept: KeptSums, to: Path) -> SumsResult:
    """Solve the readout from sums, and write the model and the sums.

    Parameters
    ----------
    first : SummedModel
        The model whose settings, extractor and standardisation stay.
    kept : KeptSums
    to : Path
        The model file; the sums are written next to it.
    """
    kept = replace(kept, where=str(to))
    fit = fit_sums(kept, first.file.config)
    weights = fit.weights()
    sums = sums_path(to)
    with_weights(kept, weights).write(sums)
    data = json.dumps([sorted(kept.facts.shards), sorted(kept.units)]).encode()
    if not first.file.rule.is_plain:
        log.warning(
            "%s: not calibrated, and without priors, thresholds and costs: a calibration needs rows that the readout "
            "is not solved from, and sums have none. Train on the rows for one", to,
        )  # fmt: skip
    write_derived(to, first.path, weights, hashlib.sha256(data).hexdigest())
    return SumsResult(
        [to, sums],
        len(kept.units),
        kept.exact_total.rows,
        kept.exact_validation.rows,
        fit.penalty,
        sums.stat().st_size,
    )
