"""The handwritten digits that come with scikit-learn: 1797 real 8x8 images, no download needed."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.data.sources.base import Part, Source


def read_source() -> Source:
    """Return the digits 0 to 9, 174 to 183 of each, as 8x8 images of whole numbers 0 to 16."""
    # Imported here: scikit-learn takes a second to load, and the other sources do without it.
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
