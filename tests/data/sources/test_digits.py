import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source


def test_known_values():
    source = open_source(DataSection(source="digits"))
    assert source.classes == list("0123456789")
    assert source.train.x.shape == (1797, 8, 8)
    assert source.test is None
    np.testing.assert_array_equal(np.bincount(source.train.y), [178, 182, 177, 183, 181, 182, 181, 179, 174, 180])
    # The first row of the first digit, a zero, as scikit-learn's documentation prints it.
    np.testing.assert_array_equal(source.train.x[0, 0], [0, 0, 5, 13, 9, 1, 0, 0])
    assert source.samples(np.arange(1797)).max() == 1
    assert source.samples(np.array([0]))[0, 0, 3] == 13 / 16
