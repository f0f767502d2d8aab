"""Number the different texts of a column while its rows are read."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import TEXT_BYTES
from rcdp_hpc.data.sources.cells import texts_of

if TYPE_CHECKING:
    import pyarrow as pa

MISSING = -1


@dataclass(eq=False)
class TextCodes:
    """The different texts of a column, numbered in the order of their appearance.

    Attributes
    ----------
    codes : dict of str to int
    blocks : list of ndarray of int64
        The number of each row's text, block by block; -1 if it is missing.
    letters : int
        Bytes of the different texts.
    """

    codes: dict[str, int] = field(default_factory=dict)
    blocks: list[NDArray[np.int64]] = field(default_factory=list)
    letters: int = 0

    def add(self, column: pa.Array) -> None:
        """Add the texts of a block of rows."""
        texts, places = texts_of(column)
        self.letters += sum(2 * TEXT_BYTES + len(text) for text in texts if text not in self.codes)
        table = [self.codes.setdefault(text, len(self.codes)) for text in texts]
        self.blocks.append(np.array([*table, MISSING], np.int64)[places])

    def finish(self) -> NDArray[np.int64]:
        """Return the number of each row's text, shape (rows,)."""
        return np.concatenate(self.blocks) if self.blocks else np.empty(0, np.int64)

    def names(self) -> list[str]:
        """Return the text of each row; empty if it is missing."""
        texts = [*self.codes, ""]
        return [texts[code] for code in self.finish()]
