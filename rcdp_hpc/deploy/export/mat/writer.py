"""Exported models for GNU Octave and MATLAB."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io
from numpy.typing import NDArray

from rcdp_hpc.deploy.export.base import Probabilities, Writer
from rcdp_hpc.deploy.export.mat.variables import variables
from rcdp_hpc.deploy.export.program import Program
from rcdp_hpc.errors import InputError, StageFailedError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.runtime.files import write_atomic

PREDICTOR = "rcdp_predict.m"
FUNCTIONS = (PREDICTOR, "rcdp_average.m")
PROGRAMS = ("octave-cli", "octave")
SECONDS = 1800
# A variable of a .mat file of version 5 has at most this many bytes.
MOST_BYTES = 2**31 - 1
SCRIPT = """
loaded = load('samples.mat');
if isfield(loaded, 'lengths')
  [~, probabilities] = rcdp_predict('model.mat', loaded.samples, loaded.lengths);
else
  [~, probabilities] = rcdp_predict('model.mat', loaded.samples);
end
save('-v6', 'probabilities.mat', 'probabilities');
"""


class MatWriter(Writer):
    """A .mat file of version 5, which GNU Octave and MATLAB load, and the functions that run and average such files."""

    name = ".mat"

    def check(self, program: Program) -> None:
        """Refuse constants that are too large for a .mat file; as `Writer.check`."""
        super().check(program)
        for name in program.constants:
            size = program.array(name).nbytes
            if size > MOST_BYTES:
                raise InputError(
                    f".mat: {name} has {size} bytes, more than the {MOST_BYTES} of a variable. Export the model as "
                    ".npz, or make it smaller first (`rcdp compress`)."
                )

    def write(self, program: Program, model: ModelFile, path: Path) -> list[Path]:
        """Write the file, and the functions next to it; as `Writer.write`."""
        content = variables(program, model.rows or 0)
        options: dict[str, Any] = {"do_compression": True, "long_field_names": True, "oned_as": "column"}
        write_atomic(path, lambda file: scipy.io.savemat(file, content, **options))
        for name in FUNCTIONS:
            text = Path(__file__).with_name(name).read_bytes()
            write_atomic(path.with_name(name), lambda file, text=text: file.write(text))  # type: ignore[misc]
        return [path, *(path.with_name(name) for name in FUNCTIONS)]

    def predict(self, path: Path, samples: NDArray[Any], lengths: NDArray[np.int64] | None) -> Probabilities | None:
        """Return the probabilities that the file has in Octave; as `Writer.predict`.

        Raises
        ------
        StageFailedError
            If Octave reports an error, or takes longer than `SECONDS`.
        """
        octave = next(filter(None, map(shutil.which, PROGRAMS)), None)
        if octave is None:
            return None
        with tempfile.TemporaryDirectory(prefix="rcdp-mat-") as folder:
            # Names without quotes or spaces, whatever the names of the user's folders.
            shutil.copy(path, Path(folder) / "model.mat")
            shutil.copy(path.with_name(PREDICTOR), folder)
            given = {"samples": samples} | ({} if lengths is None else {"lengths": lengths.astype(float)})
            scipy.io.savemat(Path(folder) / "samples.mat", given)
            _run(octave, folder)
            found = scipy.io.loadmat(Path(folder) / "probabilities.mat")["probabilities"]
        return np.asarray(found, np.float32).reshape(len(samples), -1)


def _run(octave: str, folder: str) -> None:
    """Run `SCRIPT` in a folder."""
    command = [octave, "--norc", "--no-history", "--quiet", "--eval", SCRIPT]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", timeout=SECONDS)
    except subprocess.TimeoutExpired:
        raise StageFailedError(
            f"{Path(octave).name}: ended after {SECONDS} s. To write the file without the check, add --no-check."
        ) from None
    if done.returncode:
        raise StageFailedError(f"{Path(octave).name}: {done.stderr.strip()[:2000]}")
