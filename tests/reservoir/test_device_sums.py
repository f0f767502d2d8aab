"""The sums and the readout of a GPU, computed by torch on the CPU: against BLAS, and over ranks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from parallel.thread_ranks import on_ranks
from recorded_step import NoReadBacks, ReadBackError

from rcdp_hpc.errors import CandidateError
from rcdp_hpc.reservoir import device_sums
from rcdp_hpc.reservoir.device_ridge import scaling_sums_of
from rcdp_hpc.reservoir.device_sums import DeviceSums, make_sums, sums_device
from rcdp_hpc.reservoir.gram import GramSums, reduce_sums
from rcdp_hpc.reservoir.ridge import RidgeReadout, best_by, one_hot, scaling_sums, score_moments, solve
from rcdp_hpc.reservoir.stream import sum_slabs
from rcdp_hpc.runtime.threads import limit_threads

ROWS, WIDTH, CLASSES, BOUND = 640, 50, 4, 2000.0
NAMES = ("x", "y", "xy", "yy", "total")
CPU = torch.device("cpu")
CLASS_WEIGHTS = np.array([1.0, 0.3, 2.5, 1.1])


@pytest.fixture(autouse=True)
def _small_panels(monkeypatch):
    monkeypatch.setattr(device_sums, "PANEL", 24)
    monkeypatch.setattr(device_sums, "ROWS_AT_ONCE", 48)
    with limit_threads(1):
        yield


@pytest.fixture
def problem(rng):
    x = np.tanh(rng.standard_normal((ROWS, 9)) @ rng.standard_normal((9, WIDTH)) + rng.standard_normal((ROWS, WIDTH)))
    return torch.from_numpy(x), torch.from_numpy(rng.integers(0, CLASSES, ROWS))


def slabs_of(problem, numbers):
    """Return slabs of 80 rows in two blocks."""
    x, y = problem
    for number in numbers:
        first = 80 * number
        yield [(x[first : first + 50], y[first : first + 50]), (x[first + 50 : first + 80], y[first + 50 : first + 80])]


def both(precision, largest=BOUND, joined=True, outputs=CLASSES):
    return [make_sums(WIDTH, outputs, precision, largest, joined, where) for where in (None, CPU)]


def assert_equal_sums(sums, expected, scale):
    host = sums.on_host()
    assert (sums.rows, host.rows) == (expected.rows,) * 2
    for name in NAMES:
        np.testing.assert_allclose(getattr(sums, name), getattr(expected, name), rtol=0, atol=scale)
        np.testing.assert_array_equal(getattr(host, name), getattr(sums, name))
    np.testing.assert_allclose(np.triu(host.xx), np.triu(expected.xx), rtol=0, atol=scale)
    np.testing.assert_array_equal(sums.diagonal(), host.diagonal())


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("largest", [None, BOUND])
@pytest.mark.parametrize("joined", [True, False])
def test_float64_sums_and_readouts_agree_with_blas_to_1e_12(problem, weights, largest, joined):
    blas, torch_sums = both("double", largest, joined)
    for sums in (blas, torch_sums):
        sum_slabs(sums, slabs_of(problem, range(8)), weights)
    assert_equal_sums(torch_sums, blas, 1e-12 * ROWS)
    for penalty in (1e-4, 1.0):
        expected, readout = solve(blas, penalty), solve(torch_sums, penalty)
        largest_weight = np.abs(expected.weights).max()
        np.testing.assert_allclose(readout.weights, expected.weights, rtol=0, atol=1e-12 * largest_weight)
        np.testing.assert_allclose(readout.intercept, expected.intercept, rtol=0, atol=1e-12)
        moments = score_moments(torch_sums, readout, penalty)
        np.testing.assert_allclose(moments, score_moments(blas, expected, penalty), rtol=1e-9)


@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS], ids=["plain", "weighted"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_sums_of_single_precision_are_those_of_blas_to_float32(problem, weights, dtype):
    blas, torch_sums = both("single")
    states = problem[0].to(dtype), problem[1]
    for sums in (blas, torch_sums):
        sum_slabs(sums, slabs_of(states, range(8)), weights)
    assert_equal_sums(torch_sums, blas, 1e-5 * 80)
    np.testing.assert_allclose(solve(torch_sums, 1e-2).weights, solve(blas, 1e-2).weights, atol=1e-5)
    assert torch.backends.mkldnn.matmul.fp32_precision == "none"


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("joined", [True, False])
def test_totals_are_the_same_bits_for_one_to_four_ranks(problem, precision, joined):
    def on(comm):
        sums = DeviceSums(WIDTH, CLASSES, precision, BOUND, joined)
        slabs = range(comm.rank * 8 // comm.size, (comm.rank + 1) * 8 // comm.size)
        reduce_sums(sum_slabs(sums, slabs_of(problem, reversed(slabs)), CLASS_WEIGHTS), comm)
        return sums, solve(sums, 1e-3)

    ((whole, readout),) = on_ranks(1, on)
    for ranks in (2, 3, 4):
        for sums, again in on_ranks(ranks, on):
            assert sums.rows == whole.rows
            for part in ("crossed", "squares"):
                assert torch.equal(getattr(sums, part), getattr(whole, part))
            last = whole.last + 1
            assert torch.equal(sums.lower[:last, :last].tril()[:WIDTH], whole.lower[:last, :last].tril()[:WIDTH])
            for name in NAMES:
                np.testing.assert_array_equal(getattr(sums, name), getattr(whole, name))
            np.testing.assert_array_equal(again.weights, readout.weights)


@pytest.mark.parametrize("joined", [True, False])
def test_targets_that_are_numbers_and_row_weights(problem, rng, joined):
    x, targets = problem[0].float().numpy(), rng.standard_normal((ROWS, 3))
    weights = rng.uniform(0.1, 2, ROWS)
    blas, torch_sums = both("double", None, joined, outputs=3)
    for sums in (blas, torch_sums):
        sums.add(x, targets, weights)
        sums.add_all(x[:100], targets[:100], 30)
        sums.flush()
    assert_equal_sums(torch_sums, blas, 1e-12 * ROWS)
    doubled = DeviceSums(WIDTH, 3, joined=joined)
    for _ in range(2):
        doubled.merge(torch_sums)
    np.testing.assert_array_equal(doubled.on_host().xy, 2 * torch_sums.xy)
    assert doubled.rows == 2 * torch_sums.rows
    doubled.clear()
    assert not doubled.rows
    assert not doubled.lower.any()


@pytest.mark.parametrize("precision", ["double", "single"])
@pytest.mark.parametrize("weights", [None, CLASS_WEIGHTS], ids=["plain", "weighted"])
def test_nothing_is_read_from_the_device_while_rows_are_added(problem, precision, weights):
    states = problem[0].bfloat16(), problem[1]
    with NoReadBacks():
        sums = sum_slabs(DeviceSums(WIDTH, CLASSES, precision, BOUND), slabs_of(states, range(8)), weights)
    assert sums.rows == ROWS
    with pytest.raises(ReadBackError, match="device_sums"), NoReadBacks():
        DeviceSums(WIDTH, 1, "single").add(states[0], problem[1][:, None])


@pytest.mark.parametrize("joined", [True, False])
def test_tensors_of_the_host_are_copied_to_the_device_first(problem, joined):
    """On torch's meta device, which computes nothing, as on a GPU: tensors of two devices do not mix."""
    meta = torch.device("meta")
    sums, other = (make_sums(WIDTH, CLASSES, "single", BOUND, joined, meta) for _ in range(2))
    for states, labels in ((problem[0].to(meta), problem[1]), (problem[0], problem[1].to(meta))):
        sums.add_labelled(states, labels, CLASS_WEIGHTS)
    sums.add(problem[0].to(meta), np.ones((ROWS, CLASSES)), np.ones(ROWS))
    sums.merge(other)
    readout = RidgeReadout(np.ones((WIDTH, CLASSES)), np.zeros(CLASSES))
    for found in (sums.device_xx, sums.device_xy, readout.scores(problem[0].to(meta))):
        assert found.device == meta


def test_penalties_are_chosen_as_with_blas(problem):
    blas, torch_sums = both("double")
    for sums in (blas, torch_sums):
        sum_slabs(sums, slabs_of(problem, range(6)))
    states, labels = problem[0][480:].float(), problem[1][480:]
    shares = blas.y / blas.count

    def error_by_blas(penalty):
        fits, squares, _ = scaling_sums(solve(blas, penalty).predict(states), one_hot(labels, CLASSES), shares)
        return -(fits**2) / squares

    def error_by_torch(penalty):
        scores = solve(torch_sums, penalty).scores(states)
        given = one_hot(labels, CLASSES), shares, np.ones(len(labels))
        sums = scaling_sums_of(scores, *(torch.from_numpy(one) for one in given))
        fits, squares, _ = sums.tolist()
        return -(fits**2) / squares

    penalties = [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0]
    (penalty, errors), (expected, by_blas) = best_by(error_by_torch, penalties), best_by(error_by_blas, penalties)
    assert penalty == expected
    assert errors.keys() == by_blas.keys()
    np.testing.assert_allclose(list(errors.values()), list(by_blas.values()), rtol=1e-6)
    labelled = solve(torch_sums, penalty).scores(states).argmax(1).numpy()
    np.testing.assert_array_equal(labelled, solve(blas, penalty).predict(states).argmax(1))


def test_weighted_scaling_sums(rng):
    scores, labels, shares = rng.standard_normal((30, 3)).astype(np.float32), rng.integers(0, 3, 30), np.full(3, 1 / 3)
    targets, weights = one_hot(labels, 3), rng.uniform(0.5, 2, 30)
    found = scaling_sums_of(*(torch.from_numpy(one) for one in (scores, targets, shares, weights)))
    np.testing.assert_allclose(found, scaling_sums(scores, targets, shares, weights), rtol=1e-12)


def test_constant_features_and_unsolvable_sums(problem):
    x, labels = problem[0].clone(), problem[1]
    x[:, 3] = 0.25
    sums = sum_slabs(DeviceSums(WIDTH, CLASSES), slabs_of((x, labels), range(8)))
    assert not solve(sums, 1e-3).weights[3].any()
    sums.lower[1, 0] = 1e6  # as if by rounding
    with pytest.raises(CandidateError, match=r"penalty of 1e-06 per row .* readout\.ridge_penalties"):
        solve(sums, 1e-6)
    sums.lower[0, 0] = torch.nan
    with pytest.raises(CandidateError, match="not finite"):
        solve(sums, 1.0)
    with pytest.raises(ValueError, match="no rows"):
        solve(DeviceSums(3, 1), 1.0)
    with pytest.raises(ValueError, match="do not fit"):
        DeviceSums(3, 1).add(np.ones((4, 3)), np.ones((5, 1)))


def test_sums_that_do_not_fit_into_the_device_are_refused_with_numbers(monkeypatch):
    monkeypatch.setattr(device_sums, "free_memory", lambda device: 3 * 2**30)
    DeviceSums(200, 10)
    with pytest.raises(CandidateError, match=r"20000 features needs 11\.9 GiB on cpu .* 3\.0 GiB are free there"):
        DeviceSums(20_000, 10)

    def full(*shape, **options):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(device_sums, "free_memory", lambda device: None)
    monkeypatch.setattr(torch, "zeros", full)
    with pytest.raises(CandidateError, match=r"compute on the CPU \(training\.device = 'cpu'"):
        DeviceSums(200, 10)


def test_sums_follow_the_device_of_the_states():
    assert sums_device(CPU) is None
    assert sums_device(torch.device("cuda", 1)) == torch.device("cuda", 1)
    assert sums_device(torch.device("mps")) is None  # no float64
    assert isinstance(make_sums(3, 2), GramSums)


def test_scores_stay_on_the_device_of_the_features():
    readout = RidgeReadout(np.ones((5, 2)), np.zeros(2))
    assert readout.scores(torch.ones(3, 5)).tolist() == [[5.0, 5.0]] * 3
    assert readout.placed(CPU)(torch.ones(3, 5).bfloat16()).dtype == torch.float32
