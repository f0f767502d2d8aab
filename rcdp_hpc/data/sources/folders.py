"""What the names of the files in a folder suggest that it holds."""

from __future__ import annotations

from pathlib import Path

# Files of single series; other files in the folders of classes are taken for images.
SERIES_SUFFIXES = (".csv", ".txt", ".npy", ".tsv")


def holds_file(folder: Path, *endings: str) -> bool:
    """Return whether the name of an entry of a folder ends with one of these texts, in small letters."""
    return any(entry.name.lower().endswith(endings) for entry in folder.iterdir())


def first_nested_file(folder: Path) -> Path | None:
    """Return the first file, in the order of their paths, in the subfolders of a folder; None if there is none."""
    files = (file for file in folder.rglob("*") if file.parent != folder and file.name[:1] != "." and file.is_file())
    return min(files, default=None)
