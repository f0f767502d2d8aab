import threading

import numpy as np
import pytest
import torch

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir import gram
from rcdp_hpc.reservoir.gram import GramSums, reduce_sums
from rcdp_hpc.reservoir.ridge import one_hot, solve
from rcdp_hpc.reservoir.stream import ahead, bound_of_sums, sum_slabs
from rcdp_hpc.runtime.comm.single import SingleProcess

NAMES = ("xx", "xy", "x", "y", "yy", "total")


@pytest.fixture
def problem(rng):
    x = np.tanh(rng.standard_normal((600, 5)) @ rng.standard_normal((5, 30)) + rng.standard_normal((600, 30)))
    return torch.from_numpy(x.astype(np.float32)), torch.from_numpy(rng.integers(0, 4, 600))


class Together(SingleProcess):
    """The last of several ranks; the arrays of the other ranks are fixed."""

    size = 3

    def __init__(self, others):
        self.others = others

    def allreduce(self, array, op="sum"):
        for other in self.others.pop(0):
            array = other + array
        return array


def slabs_of(problem, numbers):
    x, y = problem
    for number in numbers:
        rows = slice(100 * number, 100 * number + 100)
        yield [(x[rows][:70], y[rows][:70]), (x[rows][70:], y[rows][70:])]


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("dealt", [[[0, 1], [2, 3], [4, 5]], [[5], [4, 3, 2], [0, 1]]])
def test_sums_are_the_same_bits_for_any_distribution_of_slabs(problem, precision, dealt):
    def sums_over(numbers):
        sums = GramSums(30, 4, precision, bound_of_sums("tanh", 600))
        return sum_slabs(sums, slabs_of(problem, numbers))

    whole = sums_over(range(6))
    first, second, last = map(sums_over, dealt)
    # A single vector of every rank: one allreduce is all there is.
    total = reduce_sums(last, Together([[gram._packed(first), gram._packed(second)]]))
    assert total.rows == 600
    for name in NAMES:
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))


@pytest.mark.parametrize("precision", ["double", "single"])
def test_rounded_sums_agree_with_the_sums(problem, precision):
    x, y = problem
    plain = GramSums(30, 4)
    plain.add(x, one_hot(y, 4))
    rounded = sum_slabs(GramSums(30, 4, precision, 600.0), slabs_of(problem, range(6)))
    for name in NAMES:
        tolerance = 1e-8 if precision == "double" else 1e-3
        np.testing.assert_allclose(getattr(rounded, name), getattr(plain, name), atol=tolerance)
    np.testing.assert_allclose(solve(rounded, 1e-3).weights, solve(plain, 1e-3).weights, atol=1e-3)


def test_bfloat16_states_lose_nothing_in_single_precision(problem, monkeypatch):
    monkeypatch.setattr(gram, "PRODUCT_COLUMNS", 12)
    x, y = problem[0].bfloat16(), one_hot(problem[1], 4)
    exact, single = GramSums(30, 4), GramSums(30, 4, "single", 600.0)
    exact.add(x, y)
    single.add_all(x, y, 90)
    single.flush()
    np.testing.assert_allclose(np.triu(single.xx), np.triu(exact.xx), rtol=1e-6, atol=1e-4)
    readout = solve(exact, 1e-3)
    assert single.mean_squared_error(readout) == pytest.approx(exact.mean_squared_error(readout), rel=1e-5)
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


def test_the_blocks_of_a_triangle_cover_it_once(monkeypatch):
    monkeypatch.setattr(gram, "CACHED_NUMBERS", 60)
    covered = np.zeros((30, 30), int)
    for place in gram.upper_blocks(30):
        assert covered[place].size <= 60
        covered[place] += 1
    assert (np.triu(covered) == np.triu(np.ones((30, 30)))).all()


def test_single_precision_flushes_by_itself(problem, monkeypatch):
    x, y = problem
    plain = GramSums(30, 4, "single")
    plain.add(x, one_hot(y, 4))
    monkeypatch.setattr(gram, "SINGLE_ROWS", 100)
    monkeypatch.setattr(gram, "ROWS_AT_ONCE", 64)
    often = GramSums(30, 4, "single")
    often.add_all(x, one_hot(y, 4), 90)
    np.testing.assert_allclose(solve(often, 1e-3).weights, solve(plain, 1e-3).weights, atol=1e-4)
    assert often.mean_squared_error(solve(often, 1e-3)) == pytest.approx(
        plain.mean_squared_error(solve(plain, 1e-3)), rel=1e-4
    )
    with pytest.raises(ValueError, match="do not fit"):
        often.add(x[:, :3], one_hot(y, 4))


@pytest.mark.parametrize("precision", ["double", "single"])
def test_a_row_of_weight_n_counts_as_n_rows(problem, precision):
    x, y = problem
    class_weights = np.array([1.0, 3.0, 2.0, 1.0])
    times = class_weights[y.numpy()].astype(int)
    weighted = sum_slabs(GramSums(30, 4, precision, 1200.0), slabs_of(problem, range(6)), class_weights)
    repeated = GramSums(30, 4)
    repeated.add(x.repeat_interleave(torch.from_numpy(times), 0), one_hot(np.repeat(y.numpy(), times), 4))
    assert weighted.rows == 600
    assert weighted.count == repeated.count == times.sum()
    for name in NAMES:
        tolerance = 1e-8 if precision == "double" else 1e-3
        np.testing.assert_allclose(
            np.triu(getattr(weighted, name)), np.triu(getattr(repeated, name)), atol=tolerance, rtol=1e-6
        )
    plain = GramSums(30, 4)
    plain.add(x, one_hot(y, 4), class_weights[y.numpy()])
    np.testing.assert_allclose(solve(plain, 1e-3).weights, solve(repeated, 1e-3).weights, rtol=1e-8)


def test_sums_that_are_cleared_are_empty(problem):
    sums = sum_slabs(GramSums(30, 4, "single", 600.0), slabs_of(problem, range(6)))
    sums.clear()
    assert sums.rows == 0
    assert all(not getattr(sums, name).any() for name in NAMES)


def test_the_next_block_is_computed_ahead():
    computed = threading.Event()

    def items():
        yield 1
        computed.set()
        yield 2

    stream = ahead(items())
    assert next(stream) == 1
    assert computed.wait(5)
    assert list(stream) == [2]


def test_an_error_of_the_next_block_is_raised_in_the_caller():
    def items():
        yield 1
        raise CandidateError("broken")

    with pytest.raises(CandidateError, match="broken"):
        list(ahead(items()))
    stream = ahead(iter(range(100)))
    assert next(stream) == 0
    stream.close()
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(make)")]


def test_unbounded_states_have_no_bound():
    assert bound_of_sums("relu", 10) is None
    assert bound_of_sums("sigmoid", 10) == 10
