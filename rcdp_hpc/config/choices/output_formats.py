"""File formats of predictions: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.file_format import FileFormatChoice, FileFormatTable

_CHOICES = (
    FileFormatChoice("csv", "a table", "rcdp_hpc.deploy.formats.csv_table:CsvFormat", suffix=".csv"),
    FileFormatChoice("npz", "NumPy arrays", "rcdp_hpc.deploy.formats.npz:NpzFormat", suffix=".npz"),
    FileFormatChoice(
        "parquet", "a table", "rcdp_hpc.deploy.formats.parquet:ParquetFormat", suffix=".parquet", extra="sources"
    ),
    FileFormatChoice(
        "jsonl", "a JSON object per line", "rcdp_hpc.deploy.formats.json_lines:JsonLinesFormat", suffix=".jsonl"
    ),
)
# An option of `rcdp predict`, not a key of the configuration.
OUTPUT_FORMATS = FileFormatTable("--format", _CHOICES, user_class="a format of your own (docs/extending.md)")
