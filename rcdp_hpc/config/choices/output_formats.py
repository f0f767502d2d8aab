"""File formats of predictions: one line for each."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable


@dataclass(frozen=True)
class OutputFormatChoice(Choice):
    """A file format of predictions.

    Attributes
    ----------
    suffix : str
        The end of the names of such files.
    """

    suffix: str = ""


CHOICES = (
    OutputFormatChoice("csv", "a table", "rcdp_hpc.deploy.formats.csv_table:CsvFormat", suffix=".csv"),
    OutputFormatChoice("npz", "NumPy arrays", "rcdp_hpc.deploy.formats.npz:NpzFormat", suffix=".npz"),
    OutputFormatChoice(
        "parquet", "a table", "rcdp_hpc.deploy.formats.parquet:ParquetFormat", suffix=".parquet", extra="sources"
    ),
    OutputFormatChoice(
        "jsonl", "a JSON object per line", "rcdp_hpc.deploy.formats.json_lines:JsonLinesFormat", suffix=".jsonl"
    ),
)
# An option of `rcdp predict`, not a key of the configuration.
OUTPUT_FORMATS = ChoiceTable("--format", CHOICES, user_class="a format of your own (docs/extending.md)")


def format_of(suffix: str) -> OutputFormatChoice | None:
    """Return the format whose file names end in `suffix`, in upper or lower case; None if there is none."""
    return next((choice for choice in CHOICES if choice.suffix == suffix.lower()), None)


def suffixes_text() -> str:
    """Return the suffixes of all formats for a message: ``.csv, .npz or .jsonl``."""
    suffixes = [choice.suffix for choice in CHOICES]
    return f"{', '.join(suffixes[:-1])} or {suffixes[-1]}"
