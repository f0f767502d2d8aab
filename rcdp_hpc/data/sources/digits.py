"""The handwritten digits that come with scikit-learn: 1797 real images of 8 x 8 pixels, no download needed."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.data.sources.base import Part, Source
from rcdp_hpc.data.sources.reader import SourceReader
from rcdp_hpc.data.sources.request import SourceRequest


class DigitsReader(SourceReader):
    """Scikit-learn's handwritten digits 0 to 9, 174 to 183 images of each."""

    needs_path = False

    def read(self, request: SourceRequest) -> Source:
        """Return the digits as images of 8 x 8 whole numbers from 0 to 16."""
        # Imported here: scikit-learn takes a second to load, and the other sources do not need it.
        from sklearn.datasets import load_digits

        digits = load_digits()
        return Source(
            kind="images",
            name="digits",
            classes=[str(name) for name in digits.target_names],
            train=Part(digits.images.astype(np.uint8), digits.target.astype(np.int64)),
            test=None,
            scale=1.0 / 16.0,
            description="scikit-learn's handwritten digits, 1797 images of 8x8",
        )
