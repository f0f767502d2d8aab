"""A file format that is written, and the table of all formats of one kind of file."""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable


@dataclass(frozen=True)
class FileFormatChoice(Choice):
    """A file format.

    Attributes
    ----------
    suffix : str
        The end of the names of such files.
    """

    suffix: str = ""


@dataclass(frozen=True)
class FileFormatTable(ChoiceTable):
    """All formats of one kind of file; attributes as `ChoiceTable`."""

    choices: tuple[FileFormatChoice, ...]

    def of_suffix(self, suffix: str) -> FileFormatChoice | None:
        """Return the format whose file names end in `suffix`, in upper or lower case; None if there is none."""
        return next((choice for choice in self.choices if choice.suffix == suffix.lower()), None)

    def suffixes_text(self) -> str:
        """Return the suffixes of all formats for a message: ``.csv, .npz or .jsonl``."""
        suffixes = [choice.suffix for choice in self.choices]
        return " or ".join(filter(None, [", ".join(suffixes[:-1]), suffixes[-1]]))
