"""Exact sums: the same numbers in any order, close to float64 sums, and refused where they would not be exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from parallel.thread_ranks import on_ranks

from rcdp_hpc.errors import CandidateError, DataDamagedError, InputError
from rcdp_hpc.reservoir.gram import GramSums
from rcdp_hpc.reservoir.ridge import one_hot, scaled_error, scaling_sums, solve
from rcdp_hpc.training.solve import solving_device, unit_sums
from rcdp_hpc.training.solve.device_exact_sums import DeviceExactSums
from rcdp_hpc.training.solve.exact_sums import LARGEST, ExactSums, joined_numbers, split_numbers, sums_bytes
from rcdp_hpc.training.solve.kept_sums import KeptSums, SumsFacts, Unit
from rcdp_hpc.training.solve.sums_fit import validation_error
from rcdp_hpc.training.solve.unit_sums import UnitRows, groups_of_rank, sum_units

CLASSES = 3
FEATURES = 7


def rows(count: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    rng = np.random.default_rng(seed)
    return np.tanh(rng.normal(0.3, 1, (count, FEATURES))), rng.integers(0, CLASSES, count)


def exact(*groups: tuple[NDArray[np.float64], NDArray[np.int64]], by_class: bool = False) -> ExactSums:
    sums = ExactSums.empty(FEATURES, CLASSES, by_class)
    for group in groups:
        sums.add_rows(*group)
    return sums


def kept(*units: Unit, by_class: bool = False) -> KeptSums:
    settings = {"readout": {"kind": "ridge"}, "loss": {"class_weights": "balanced" if by_class else "none"}}
    facts = SumsFacts(["a", "b", "c"], FEATURES, by_class, settings)
    return KeptSums(facts, {f"unit {number}": unit for number, unit in enumerate(units)})


@pytest.mark.parametrize("by_class", [False, True])
def test_sums_are_close_to_those_in_float64_and_do_not_depend_on_the_order(by_class):
    groups = [rows(40, seed) for seed in range(5)]
    sums = exact(*groups, by_class=by_class)
    other = exact(*groups[:2], by_class=by_class)
    other += exact(*reversed(groups[2:]), by_class=by_class)
    for name in ("xx", "xy", "counts"):
        assert np.array_equal(getattr(sums, name), getattr(other, name))
    expected = GramSums(FEATURES, CLASSES)
    for features, labels in groups:
        expected.add(features, one_hot(labels, CLASSES))
    found = sums.gram()
    for name in ("xy", "x", "y", "yy", "total"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-9)
    np.testing.assert_allclose(np.triu(found.xx), np.triu(expected.xx), atol=1e-9)
    np.testing.assert_allclose(solve(found, 1e-3).weights, solve(expected, 1e-3).weights, rtol=1e-6)
    assert sums.xx.nbytes + sums.xy.nbytes + sums.counts.nbytes == sums_bytes(FEATURES, CLASSES, by_class)


def test_weights_of_classes_are_those_of_rows():
    features, labels = rows(60)
    weights = np.array([0.5, 1.0, 2.5])
    expected = GramSums(FEATURES, CLASSES)
    expected.add(features, one_hot(labels, CLASSES), weights[labels])
    found = exact((features, labels), by_class=True).gram(weights)
    np.testing.assert_allclose(found.xy, expected.xy, atol=1e-9)
    np.testing.assert_allclose(np.triu(found.xx), np.triu(expected.xx), atol=1e-9)
    with pytest.raises(ValueError, match="sums by class"):
        exact((features, labels)).gram(weights)


def test_the_error_on_validation_rows_follows_from_their_sums():
    readout = solve(exact(rows(80)).gram(), 1e-2)
    features, labels = rows(50, seed=1)
    shares = np.array([0.2, 0.3, 0.5])
    scores = features @ readout.weights + readout.intercept
    expected = scaled_error(*scaling_sums(scores, one_hot(labels, CLASSES), shares).tolist()) / (50 * CLASSES)
    assert validation_error(exact((features, labels)).gram(), readout, shares) == pytest.approx(expected, rel=1e-9)


def test_numbers_are_added_by_their_halves_without_rounding():
    rng = np.random.default_rng(0)
    numbers = rng.integers(-(2**61), 2**61, (3, 100))
    halves = np.sum([split_numbers(one) for one in numbers], axis=0)
    assert np.array_equal(joined_numbers(halves), numbers.sum(axis=0))


@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (1e5, "hold sums below"), (np.sqrt(LARGEST / 2), "squares below")],
)
def test_what_cannot_be_exact_is_refused(value, message):
    features, labels = rows(2)
    features[0, 2] = value
    sums = exact((features, labels)) if message == "squares below" else exact(rows(2))
    with pytest.raises(CandidateError, match=message):
        sums.add_rows(features, labels)


def test_the_largest_sums_are_exact():
    big = np.full((1, FEATURES), np.sqrt(LARGEST) / 2)
    sums = exact((big, np.array([1])), (big, np.array([1])))
    other = exact((big, np.array([1])))
    other += other
    assert np.array_equal(sums.xx, other.xx)
    assert sums.gram().xx[0, 0] == pytest.approx(LARGEST / 2)


@pytest.mark.parametrize("by_class", [False, True])
def test_a_file_of_sums_holds_what_was_written(tmp_path, by_class):
    units = (
        Unit(exact(rows(20), by_class=by_class), exact(rows(5, 1), by_class=by_class)),
        Unit(None, exact(rows(9, 2), by_class=by_class)),
    )
    kept(*units, by_class=by_class).write(tmp_path / "sums.npz")
    read = KeptSums.read(tmp_path / "sums.npz")
    assert read.units == ["unit 0", "unit 1"]
    assert read.by_unit["unit 1"].train is None
    assert read.facts == kept(by_class=by_class).facts
    assert (read.total.rows, read.validation.rows) == (20, 14)
    with np.load(tmp_path / "sums.npz") as content:  # a plain archive of arrays
        assert np.array_equal(content["xx_train_0"], units[0].train.xx)


def test_a_class_without_rows_has_no_balanced_weight():
    features, labels = rows(30)
    rest = labels != 1
    with pytest.raises(InputError, match="class b has none left"):
        _ = kept(Unit(exact((features[rest], labels[rest]), by_class=True)), by_class=True).class_weights


@pytest.mark.parametrize("damage", ["cut", "flip", "other format", "other shape", "not sums"])
def test_a_damaged_file_of_sums_is_refused(tmp_path, damage):
    path = tmp_path / "sums.npz"
    sums = kept(Unit(exact(rows(20))))
    if damage == "other shape":
        sums = KeptSums(SumsFacts(["a", "b"], FEATURES, False, {}), sums.by_unit)
    sums.write(path)
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:-200]
    elif damage == "flip":
        content[len(content) // 2] ^= 1
    elif damage == "other format":
        content = content.replace(b'"format": 1', b'"format": 7')
    elif damage == "not sums":
        content = bytearray(b"PK")
    path.write_bytes(content)
    with pytest.raises(DataDamagedError, match=r"sums\.npz.*Restore the file from a backup"):
        KeptSums.read(path)


def test_groups_are_within_units_and_on_one_rank_each():
    units = [UnitRows("a", "train", 0, 5000), UnitRows("b", "train", 5000, 5003), UnitRows("a", "validation", 0, 2100)]
    single = list(groups_of_rank(units, 0, 1))
    assert [(group.name, group.role, group.start, group.stop) for group in single] == [
        ("a", "train", 0, 2048), ("a", "train", 2048, 4096), ("a", "train", 4096, 5000), ("b", "train", 5000, 5003),
        ("a", "validation", 0, 2048), ("a", "validation", 2048, 2100),
    ]  # fmt: skip
    for ranks in (2, 3, 11):
        assert [group for rank in range(ranks) for group in groups_of_rank(units, rank, ranks)] == single
    assert max(group.stop - group.start for group in groups_of_rank(units, 0, 1, copies=5)) == 2048 // 5


CPU = torch.device("cpu")


def on_torch(*groups: tuple[NDArray[np.float64], NDArray[np.int64]], by_class: bool = False) -> ExactSums:
    sums = DeviceExactSums(FEATURES, CLASSES, by_class, CPU)
    for features, labels in groups:
        cut = len(labels) // 3
        sums.add_blocks(
            [(torch.from_numpy(features[:cut]), labels[:cut]), (torch.from_numpy(features[cut:]), labels[cut:])]
        )
    return sums.on_host()


@pytest.mark.parametrize("by_class", [False, True])
def test_sums_of_a_device_are_those_of_blas(by_class):
    groups = [rows(40, seed) for seed in range(5)]
    for digits, within in ((8, 0), (None, 5)):
        states = [(np.round(x * 2.0**digits) / 2.0**digits if digits else x, labels) for x, labels in groups]
        found, expected = on_torch(*states, by_class=by_class), exact(*states, by_class=by_class)
        for name in ("xx", "xy", "counts"):
            assert np.abs(getattr(found, name) - getattr(expected, name)).max() <= within
    with pytest.raises(CandidateError, match="not finite"):
        on_torch((np.full((3, FEATURES), np.nan), np.zeros(3, np.int64)))
    with pytest.raises(CandidateError, match=r"one has 2\.01e\+08: set readout\.keep_sums = false"):
        on_torch((np.full((3, FEATURES), LARGEST), np.zeros(3, np.int64)))
    with pytest.raises(CandidateError, match=r"squares below .* over 6 rows"):
        on_torch(*[(np.full((3, FEATURES), np.sqrt(LARGEST / 5)), np.zeros(3, np.int64))] * 2)


@pytest.mark.parametrize("room", [None, 10])
def test_units_are_summed_on_the_device_by_any_number_of_ranks(monkeypatch, room):
    x, labels = rows(90)
    units = [UnitRows("a", "train", 0, 50), UnitRows("b", "train", 50, 70), UnitRows("b", "validation", 70, 90)]
    monkeypatch.setattr(unit_sums, "GROUP_ROWS", 16)
    monkeypatch.setattr(solving_device, "free_memory", lambda device: room)

    def blocks(split, start, stop):
        for first in range(start, stop, 7):
            part = slice(first, min(first + 7, stop))
            yield torch.from_numpy(x[part]).float(), torch.from_numpy(labels[part])

    def summed(comm, device=CPU):
        return sum_units(comm, units, blocks, FEATURES, CLASSES, True, 1, device)

    (expected,) = on_ranks(1, lambda comm: summed(comm, None))
    for ranks in (1, 2, 3):
        found = on_ranks(ranks, summed)[0]
        for name, role in (("a", "train"), ("b", "train"), ("b", "validation")):
            for part in ("xx", "xy", "counts"):
                one, other = (getattr(units[name].of(role), part) for units in (found, expected))
                assert np.abs(one - other).max() <= (0 if room else 4)
