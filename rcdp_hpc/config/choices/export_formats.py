"""File formats of exported models: one line for each."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable


@dataclass(frozen=True)
class ExportFormatChoice(Choice):
    """A file format of exported models.

    Attributes
    ----------
    suffix : str
        The end of the names of such files.
    """

    suffix: str = ""


CHOICES = (
    ExportFormatChoice(
        "npz", "NumPy arrays, with a predictor of one file that needs NumPy alone",
        "rcdp_hpc.deploy.export.npz_writer:NpzWriter", suffix=".npz",
    ),
    ExportFormatChoice(
        "onnx", "one ONNX file, for ONNX runtimes in many languages",
        "rcdp_hpc.deploy.export.onnx_writer:OnnxWriter", extra="export", suffix=".onnx",
    ),
    ExportFormatChoice(
        "safetensors", "weights and settings, for programs that build the network themselves",
        "rcdp_hpc.deploy.export.safetensors_writer:SafetensorsWriter", extra="export", suffix=".safetensors",
    ),
    ExportFormatChoice(
        "c", "one C99 file without dependencies",
        "rcdp_hpc.deploy.export.c99.writer:CWriter", suffix=".c",
    ),
    ExportFormatChoice(
        "mat", "variables for GNU Octave and MATLAB, with functions that run and average them",
        "rcdp_hpc.deploy.export.mat.writer:MatWriter", suffix=".mat",
    ),
)  # fmt: skip
# The suffix of --to of `rcdp export`, not a key of the configuration.
EXPORT_FORMATS = ChoiceTable("--to", CHOICES)


def export_format_of(suffix: str) -> ExportFormatChoice | None:
    """Return the format whose file names end in `suffix`, in upper or lower case; None if there is none."""
    return next((choice for choice in CHOICES if choice.suffix == suffix.lower()), None)


def export_suffixes() -> str:
    """Return the suffixes of all formats for a message: ``.npz, .onnx or .c``."""
    suffixes = [choice.suffix for choice in CHOICES]
    return " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))
