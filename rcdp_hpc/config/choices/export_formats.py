"""File formats of exported models: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.file_format import FileFormatChoice, FileFormatTable

_CHOICES = (
    FileFormatChoice(
        "npz", "NumPy arrays, with a predictor of one file that needs NumPy alone",
        "rcdp_hpc.deploy.export.npz_writer:NpzWriter", suffix=".npz",
    ),
    FileFormatChoice(
        "onnx", "one ONNX file, for ONNX runtimes in many languages",
        "rcdp_hpc.deploy.export.onnx_writer:OnnxWriter", extra="export", suffix=".onnx",
    ),
    FileFormatChoice(
        "safetensors", "weights and settings, for programs that build the network themselves",
        "rcdp_hpc.deploy.export.safetensors_writer:SafetensorsWriter", extra="export", suffix=".safetensors",
    ),
    FileFormatChoice(
        "c", "one C99 file without dependencies",
        "rcdp_hpc.deploy.export.c99.writer:CWriter", suffix=".c",
    ),
    FileFormatChoice(
        "mat", "variables for GNU Octave and MATLAB, with functions that run and average them",
        "rcdp_hpc.deploy.export.mat.writer:MatWriter", suffix=".mat",
    ),
)  # fmt: skip
# The suffix of --to of `rcdp export`, not a key of the configuration.
EXPORT_FORMATS = FileFormatTable("--to", _CHOICES)
