"""Tensors without zeros and in fewer bits: exact where promised, small, and refused if altered."""

from __future__ import annotations

import json

import numpy as np
import pytest

from rcdp_hpc.model.packed_tensors import pack, unpack, unpacked_bytes
from rcdp_hpc.model.packing import Packing, Quantized


def sparse(density: float, shape=(120, 90), scale: float = 1.0) -> np.ndarray:
    rng = np.random.default_rng(5)
    values = (scale * rng.standard_normal(shape)).astype(np.float32)
    values[rng.random(shape) >= density] = 0
    return values


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_quantised_tensor_is_within_half_a_scale_of_its_values(axis):
    values = np.random.default_rng(1).standard_normal((4, 5, 3)).astype(np.float32)
    values[1], values[:, 2], values[..., 0] = 0, 0, 0
    quantized = Quantized.of(values, axis)
    scale = quantized.scale.reshape([-1 if number == axis else 1 for number in range(3)])
    assert len(quantized.scale) == values.shape[axis]
    assert quantized.codes.dtype == np.int8
    assert np.abs(quantized.codes.astype(int)).max() == 127
    assert np.all(np.abs(quantized.dense() - values) <= scale * 0.5000001)
    assert np.all(quantized.dense()[values == 0] == 0)


@pytest.mark.parametrize("values", [np.zeros((3, 2)), np.zeros((0, 4)), np.float32(-2.5), np.full((2, 2), 1e-45)])
def test_tensors_without_a_largest_value_are_quantised(values):
    quantized = Quantized.of(np.asarray(values, np.float32))
    assert quantized.dense().shape == np.shape(values)
    assert np.allclose(quantized.dense(), values, atol=1e-30)


@pytest.mark.parametrize(
    ("codes", "scale", "axis", "message"),
    [
        (np.zeros((2, 3), np.int16), np.ones(2, np.float32), 0, "int8"),
        (np.zeros((2, 3), np.int8), np.ones(3, np.float32), 0, "3 scales for axis 0"),
        (np.zeros((2, 3), np.int8), np.ones(2, np.float32), 2, "axis 2 of a tensor with 2 axes"),
        (np.full((2, 3), -128, np.int8), np.ones(2, np.float32), 0, "below -127"),
        (np.zeros((2, 3), np.int8), np.array([1, 0], np.float32), 0, "not positive"),
        (np.zeros((2, 3), np.int8), np.array([1, np.nan], np.float32), 0, "not positive"),
    ],
)
def test_codes_and_scales_that_do_not_fit_are_refused(codes, scale, axis, message):
    with pytest.raises(ValueError, match=message):
        Quantized(codes, scale, axis)


def test_another_number_of_bits_is_refused():
    with pytest.raises(ValueError, match="bits = 4 is not one of 32, 16, 8"):
        Packing(4)  # type: ignore[arg-type]


@pytest.mark.parametrize("density", [1, 0.6, 0.1, 0.01, 1e-4, 0])
@pytest.mark.parametrize("sparsely", [True, False])
def test_32_bits_keep_every_value(density, sparsely):
    tensors = {
        "weight": sparse(density),
        "wide": np.arange(5.0),
        "empty": np.zeros((0, 3), np.float32),
        "count": np.array(7, np.int64),
        "flags": np.array([True, False, False]),
    }
    layout, block = pack(tensors, Packing(32, sparsely))
    read = unpack(layout, block)
    assert list(read.dense) == list(tensors)
    for name, values in tensors.items():
        assert read.dense[name].dtype == values.dtype
        assert np.array_equal(read.dense[name], values)
    assert not read.quantized
    assert unpacked_bytes(layout) == sum(values.nbytes for values in tensors.values())
    weight, others = tensors["weight"], sum(tensors[name].nbytes for name in ("wide", "count", "flags"))
    limit = np.count_nonzero(weight) * 4 + weight.size / 8 if sparsely else weight.nbytes
    assert len(block) <= min(limit, weight.nbytes) + others


def test_16_bits_have_11_digits_whatever_the_size_of_the_values():
    for scale in (1e-30, 1e-5, 1.0, 1e30):
        values = sparse(0.5, scale=scale)
        layout, block = pack({"w": values, "b": values[0]}, Packing(16, sparse=False))
        read = unpack(layout, block)
        assert len(block) == 2 * values.size + 4 * values.shape[1]
        assert np.array_equal(read.dense["b"], values[0])  # a vector keeps all its bits
        assert np.abs(read.dense["w"] - values).max() <= 2**-11 * np.abs(values).max()


def test_8_bits_are_codes_that_are_read_again():
    values = sparse(0.1)
    mine = Quantized.of(values[:20], axis=1)
    layout, block = pack({"w": values, "mine": values[:20], "b": values[0]}, Packing(8), {"mine": mine})
    read = unpack(layout, block)
    assert set(read.quantized) == {"w", "mine"}
    assert read.quantized["mine"].axis == 1
    assert np.array_equal(read.quantized["mine"].codes, mine.codes)
    assert np.array_equal(read.quantized["w"].scale, Quantized.of(values).scale)
    assert np.array_equal(read.dense["w"], read.quantized["w"].dense())
    assert np.array_equal(read.dense["b"], values[0])
    # A byte for each value that is not zero, and one for its position.
    assert len(block) < 2 * np.count_nonzero(values) + 4 * len(values) + 2000


def test_codes_of_another_shape_are_refused():
    with pytest.raises(ValueError, match="codes of the shape"):
        pack({"w": sparse(1)}, Packing(), {"w": Quantized.of(sparse(1)[:5])})


def altered(layout: str, **changes) -> str:
    entries = json.loads(layout)
    entries[0].update(changes)
    return json.dumps(entries)


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": [10**9, 10**9]},
        {"shape": [120, 91]},
        {"shape": [-1, 5]},
        {"shape": [1] * 9},
        {"shape": "120"},
        {"stored": 10**12},
        {"stored": 3},
        {"stored": True},
        {"dtype": "object"},
        {"dtype": ["float32"]},
        {"form": "all"},
        {"form": "mask"},
        {"form": "list"},
        {"bits": 4},
        {"bits": 8},
        {"scales": 2},
        {"exponent": 5000},
        {"gaps": 10**10},
        {"gaps": 0},
        {"extra": 1},
        {"name": "b"},
    ],
)
def test_a_list_that_does_not_fit_its_bytes_is_refused(changes):
    layout, block = pack({"w": sparse(0.05), "b": np.zeros(3, np.float32)}, Packing())
    assert json.loads(layout)[0]["form"] == "gaps"
    with pytest.raises((ValueError, TypeError)):
        unpack(altered(layout, **changes), block)


@pytest.mark.parametrize("layout", ["", "{}", "[1]", "[" * 100_000, '[{"name": "w"}]', "null"])
def test_a_text_that_is_not_a_list_is_refused(layout):
    with pytest.raises((ValueError, TypeError)):
        unpack(layout, np.zeros(4, np.uint8))


def test_bytes_too_few_or_too_many_and_positions_outside_are_refused():
    layout, block = pack({"w": sparse(0.05)}, Packing())
    for other in (block[:-1], np.append(block, np.uint8(0)), block[:0]):
        with pytest.raises(ValueError, match="bytes"):
            unpack(layout, other)
    moved = block.copy()
    moved[0] += 1
    with pytest.raises(ValueError, match="positions"):
        unpack(layout, moved)


def test_bytes_decide_how_large_a_tensor_can_be():
    """A crafted list cannot declare more values than 255 for each byte."""
    layout, block = pack({"w": np.zeros(10**6, np.float32)}, Packing())
    assert len(block) >= 10**6 / 255
    with pytest.raises(ValueError, match="positions"):
        unpack(altered(layout, shape=[10**12]), block)
