import numpy as np
import pytest
import torch

from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir.sequence import as_sequences, sequence_shape

TABLE = [
    ((5,), "rows", (1, 5)),
    ((5,), "columns", (1, 5)),
    ((5,), "both", (1, 5)),
    ((4, 3), "rows", (4, 3)),
    ((4, 3), "columns", (3, 4)),
    ((3, 3), "both", (3, 6)),
    ((4, 3, 2), "rows", (4, 6)),
    ((4, 3, 2), "columns", (3, 8)),
    ((3, 3, 2), "both", (3, 12)),
]


def by_hand(sample, order):
    """Return the steps of one sample, spelled out pixel by pixel."""
    if sample.ndim == 1:
        return [list(sample)]
    height, width = sample.shape[:2]
    rows = [[value for j in range(width) for value in np.atleast_1d(sample[i, j])] for i in range(height)]
    columns = [[value for i in range(height) for value in np.atleast_1d(sample[i, j])] for j in range(width)]
    both = [row + column for row, column in zip(rows, columns, strict=False)]
    return {"rows": rows, "columns": columns, "both": both}[order]


@pytest.mark.parametrize(("shape", "order", "expected"), TABLE)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_table_of_shapes(shape, order, expected, kind):
    assert sequence_shape(shape, order) == expected
    x = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    u = as_sequences(x if kind == "numpy" else torch.from_numpy(x), order)
    assert tuple(u.shape) == (2, *expected)
    assert isinstance(u, np.ndarray) == (kind == "numpy")
    for sample, steps in zip(x, np.asarray(u), strict=True):
        np.testing.assert_array_equal(steps, by_hand(sample, order))


def test_rows_and_columns_of_plain_images_are_views():
    x = np.zeros((2, 4, 3), dtype=np.float32)
    assert np.shares_memory(as_sequences(x, "rows"), x)
    assert np.shares_memory(as_sequences(x, "columns"), x)


def test_both_needs_square_samples():
    with pytest.raises(InputError, match="4 x 3"):
        sequence_shape((4, 3), "both")


@pytest.mark.parametrize("shape", [(), (2, 2, 2, 2), (0,), (3, 0)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(InputError, match="shape"):
        sequence_shape(shape, "rows")
