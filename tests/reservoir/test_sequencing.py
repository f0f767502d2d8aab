import re
import tomllib

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from launch import REPOSITORY

from rcdp_hpc.config import load_config, parse_config
from rcdp_hpc.errors import InputError
from rcdp_hpc.reservoir import sequencing
from rcdp_hpc.reservoir.sequencing import Sequencer
from rcdp_hpc.reservoir.states import Reservoir

TABLE = [
    ((5,), Sequencer("rows"), (1, 5)),
    ((5,), Sequencer("columns"), (1, 5)),
    ((5,), Sequencer("both"), (1, 5)),
    ((5,), Sequencer("pixels"), (5, 1)),
    ((7,), Sequencer("windows", (3,), (2,)), (3, 3)),
    ((4, 3), Sequencer("rows"), (4, 3)),
    ((4, 3), Sequencer("columns"), (3, 4)),
    ((3, 3), Sequencer("both"), (3, 6)),
    ((4, 3), Sequencer("pixels"), (12, 1)),
    ((6, 4), Sequencer("patches", (2, 4), (2, 4)), (3, 8)),
    ((5, 4), Sequencer("patches", (3, 2), (1, 2)), (6, 6)),
    ((7, 2), Sequencer("windows", (3,), (2,)), (3, 6)),
    ((4, 3, 2), Sequencer("rows"), (4, 6)),
    ((4, 3, 2), Sequencer("columns"), (3, 8)),
    ((3, 3, 2), Sequencer("both"), (3, 12)),
    ((4, 3, 2), Sequencer("channels"), (2, 12)),
    ((4, 3, 2), Sequencer("pixels"), (12, 2)),
    ((4, 6, 2), Sequencer("patches", (2, 3), (2, 3)), (4, 12)),
    ((32, 32, 3), Sequencer("patches", (8, 8), (8, 8)), (16, 192)),
    ((28, 28), Sequencer("patches", (4, 4), (2, 2)), (169, 16)),
    ((4, 3, 2), Sequencer("windows", (2,), (1,)), (3, 12)),
]


def by_hand(sample, cut):
    """Return the steps of one sample, computed value by value."""
    if sample.ndim == 1 and cut.order in ("rows", "columns", "both"):
        return [list(sample)]
    image = sample.reshape(*sample.shape, *[1] * (3 - sample.ndim))
    height, width, channels = image.shape

    def piece(top, left, high, wide):
        return [image[top + i, left + j, c] for i in range(high) for j in range(wide) for c in range(channels)]

    rows = [piece(i, 0, 1, width) for i in range(height)]
    columns = [piece(0, j, height, 1) for j in range(width)]
    if cut.order == "channels":
        return [[image[i, j, c] for i in range(height) for j in range(width)] for c in range(channels)]
    if cut.order in ("rows", "columns", "both"):
        both = [row + column for row, column in zip(rows, columns, strict=False)]
        return {"rows": rows, "columns": columns, "both": both}[cut.order]
    (h, w), (a, b) = {"patches": (cut.size, cut.stride), "pixels": ((1, 1), (1, 1))}.get(
        cut.order, ((*cut.size, width), (*cut.stride, 1))
    )
    return [
        piece(top, left, h, w) for top in range(0, height - h + 1, a) for left in range(0, width - w + 1, b)
    ]  # fmt: skip


@pytest.mark.parametrize(("shape", "cut", "expected"), TABLE)
@pytest.mark.parametrize("kind", ["numpy", "torch"])
def test_table_of_shapes(shape, cut, expected, kind):
    assert cut.shape(shape) == expected
    x = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    u = cut.sequences(x if kind == "numpy" else torch.from_numpy(x))
    assert tuple(u.shape) == (2, *expected)
    assert isinstance(u, np.ndarray) == (kind == "numpy")
    for sample, steps in zip(x, np.asarray(u), strict=True):
        np.testing.assert_array_equal(steps, by_hand(sample, cut))


def test_the_examples_of_the_documentation():
    text = (REPOSITORY / "docs/cutting.md").read_text()
    examples = re.findall(r"^\| \((.*?)\) \| `(.*?)` \| (\d+) \| (\d+) \|$", text, re.MULTILINE)
    assert len(examples) == 11
    for shape, settings, steps, features in examples:
        tree = tomllib.loads(f"reservoir = {{ {settings} }}")
        cut = Sequencer.of(parse_config(tree, "docs/cutting.md").reservoir)
        assert cut.shape([int(length) for length in shape.split(",") if length]) == (int(steps), int(features))


def test_patches_of_an_image_by_hand():
    image = np.array([[[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]])
    assert Sequencer("patches", (2, 2), (1, 2)).sequences(image)[0].tolist() == [
        [1, 2, 5, 6], [3, 4, 7, 8], [5, 6, 9, 10], [7, 8, 11, 12],
    ]  # fmt: skip
    colours = np.array([[[[1, 10], [2, 20]], [[3, 30], [4, 40]]]])
    assert Sequencer("patches", (1, 2), (1, 2)).sequences(colours)[0].tolist() == [[1, 10, 2, 20], [3, 30, 4, 40]]
    assert Sequencer("channels").sequences(colours)[0].tolist() == [[1, 2, 3, 4], [10, 20, 30, 40]]
    assert Sequencer("pixels").sequences(colours)[0].tolist() == [[1, 10], [2, 20], [3, 30], [4, 40]]


def test_windows_of_a_series_by_hand():
    series = np.array([[[1, 10], [2, 20], [3, 30], [4, 40]]])
    assert Sequencer("windows", (2,), (2,)).sequences(series)[0].tolist() == [[1, 10, 2, 20], [3, 30, 4, 40]]
    assert Sequencer("windows", (3,), (1,)).sequences(np.array([[1, 2, 3, 4]]))[0].tolist() == [[1, 2, 3], [2, 3, 4]]


sizes = st.integers(1, 5)


@given(st.data(), st.lists(st.integers(1, 7), min_size=1, max_size=3))
def test_any_shape_and_patch(data, shape):
    orders = {1: ["windows", "pixels"], 2: ["patches", "windows", "pixels", "columns"]}
    order = data.draw(st.sampled_from(orders.get(len(shape), ["patches", "windows", "pixels", "channels"])))
    axes = {"patches": 2, "windows": 1}.get(order, 0)
    size = tuple(data.draw(st.integers(1, length)) for length in shape[:axes])
    stride = tuple(data.draw(sizes) for _ in range(axes))
    cut = Sequencer(order, size, stride, "drop")
    x = np.arange(2 * np.prod(shape), dtype=np.float32).reshape(2, *shape)
    expected = np.array([by_hand(sample, cut) for sample in x])
    assert (2, *cut.shape(shape)) == expected.shape
    np.testing.assert_array_equal(cut.sequences(x), expected)
    np.testing.assert_array_equal(cut.sequences(torch.from_numpy(x)).numpy(), expected)


@given(st.integers(1, 6), st.integers(1, 6), st.lists(st.integers(6, 20), min_size=1, max_size=5))
def test_windows_end_where_the_sequence_does(width, stride, lengths):
    cut, longest = Sequencer("windows", (width,), (stride,), "drop"), max(lengths)
    x = np.arange(len(lengths) * longest * 2, dtype=np.float32).reshape(len(lengths), longest, 2)
    whole = cut.sequences(x)
    for row, steps in enumerate(cut.lengths(lengths)):
        alone = cut.sequences(x[row : row + 1, : lengths[row]])[0]
        assert len(alone) == steps
        np.testing.assert_array_equal(whole[row, :steps], alone)


def test_rows_and_columns_of_plain_images_are_views():
    x = np.zeros((2, 4, 3), dtype=np.float32)
    assert np.shares_memory(Sequencer("rows").sequences(x), x)
    assert np.shares_memory(Sequencer("columns").sequences(x), x)
    assert np.shares_memory(Sequencer("windows", (2,), (2,)).sequences(x), x)


def test_read_only_samples_are_accepted():
    x = np.arange(12, dtype=np.float32).reshape(1, 4, 3)
    x.flags.writeable = False
    assert Sequencer("patches", (2, 3), (2, 3)).sequences(x).tolist() == [[[0, 1, 2, 3, 4, 5], [6, 7, 8, 9, 10, 11]]]


@pytest.mark.parametrize(
    ("shape", "cut", "message"),
    [
        ((4, 3), Sequencer("both"), "as high as wide, these are 4 x 3"),
        ((), Sequencer(), "shape"),
        ((2, 2, 2, 2), Sequencer(), "shape"),
        ((0,), Sequencer(), "all above 0"),
        ((3, 0), Sequencer(), "all above 0"),
        (
            (5,),
            Sequencer("channels"),
            r"'channels' needs samples of shape \(height, width, channels\), these are \(5,\)",
        ),
        ((4, 3), Sequencer("channels"), r"these are \(4, 3\): 'columns' reads each column of a series"),
        (
            (5,),
            Sequencer("patches", (1, 1), (1, 1)),
            r"'patches' needs samples of shape .* these are \(5,\): 'windows' cuts",
        ),
        ((4, 3), Sequencer("patches", (5, 3), (5, 3)), "5 rows are more than the 4 rows of a sample"),
        (
            (4, 3),
            Sequencer("patches", (4, 4), (4, 4)),
            "4 columns are more than the 3 columns of a sample",
        ),
        (
            (4, 3),
            Sequencer("windows", (5,), (1,)),
            r"piece_size = \[5\]: 5 steps are more than the 4 steps",
        ),
        (
            (7, 6),
            Sequencer("patches", (2, 2), (2, 2)),
            "leaves out 1 of the 7 rows of a sample: set a stride of 1, an",
        ),
        (
            (6, 8),
            Sequencer("patches", (3, 3), (3, 3)),
            "leaves out 2 of the 8 columns .* stride of 1, .*piece_edge = 'drop'",
        ),
        ((14, 2), Sequencer("windows", (6,), (3,)), "a stride of 1 or 2 or 4, another size"),
        ((9, 2), Sequencer("windows", (4,), (3,)), r"piece_stride = \[3\] leaves out 2 of the 9 steps of a sample"),
    ],
)
def test_samples_that_do_not_fit_the_order_are_refused(shape, cut, message):
    with pytest.raises(InputError, match=message):
        cut.shape(shape)


def test_dropped_steps_are_logged_once(monkeypatch):
    messages: list[str] = []
    monkeypatch.setattr("rcdp_hpc.runtime.logs._logged_once", set())
    monkeypatch.setattr(sequencing.log, "warning", lambda form, *values: messages.append(form % values))
    cut = Sequencer("patches", (3, 5), (3, 5), "drop")
    for _ in range(2):
        assert cut.shape((10, 10)) == (6, 15)
    assert messages == [
        "reservoir.piece_size = [3, 5] with reservoir.piece_stride = [3, 5] leaves out 1 of the 10 rows of a sample "
        "(reservoir.piece_edge = 'drop')"
    ]


@pytest.mark.parametrize(
    ("cut", "lengths", "message"),
    [
        (Sequencer("windows", (4,), (1,)), [9, 3], "4 steps are more than the 3 steps of a sample"),
        (Sequencer("windows", (4,), (2,)), [8, 9], "leaves out 1 of the 9 steps of a sample"),
        (
            Sequencer("columns"),
            [8],
            "'columns' does not follow the steps of sequences of unequal length: set it to 'rows' or",
        ),
        (Sequencer("both"), [8], "'both' does not follow"),
        (Sequencer("pixels"), [8], "'pixels' does not follow"),
        (Sequencer("channels"), [8], "'channels' does not follow"),
        (Sequencer("patches", (2, 2), (2, 2)), [8], "'patches' does not follow"),
    ],
)
def test_lengths_that_do_not_fit_the_order_are_refused(cut, lengths, message):
    with pytest.raises(InputError, match=message):
        cut.lengths(lengths)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"sequence": "patches"},
            r"test: reservoir.sequence = 'patches' needs reservoir.piece_size = \[height, width\], not \[\]",
        ),
        ({"sequence": "patches", "piece_size": [3]}, r"= \[height, width\], not \[3\]"),
        ({"sequence": "windows", "piece_size": [3, 3]}, r"'windows' needs reservoir.piece_size = \[steps\], not"),
        ({"piece_size": [3, 3]}, "are for sequence = 'patches' or 'windows', not 'rows'"),
        ({"sequence": "channels", "piece_stride": [1]}, "are for sequence = 'patches' or 'windows', not 'channels'"),
        ({"sequence": "windows", "piece_size": [3], "piece_stride": [1, 1]}, r"piece_stride = \[1, 1\]: expected \[st"),
        ({"sequence": "windows", "piece_size": [3], "piece_stride": [0]}, r"piece_stride = \[0\]: every number must"),
        ({"sequence": "patches", "piece_size": [0, 3]}, r"piece_size = \[0, 3\] .* every number must be 1 or more"),
        ({"sequence": "patches", "piece_size": [-1, 3]}, "every number must be 1 or more"),
        ({"sequence": "patches", "piece_size": [3, 2.5]}, r"reservoir.piece_size.1. = 2.5: .*integer"),
        ({"sequence": "diagonals"}, "reservoir.sequence = 'diagonals'"),
        ({"sequence": "patches", "piece_size": [2, 2], "scans": ["rows"]}, "is a half of reservoir.sequence = 'both'"),
    ],
)
def test_invalid_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        parse_config({"reservoir": settings}, "test")


def test_the_rule_of_the_settings():
    overrides = ["reservoir.sequence=patches", "reservoir.piece_size=[4, 2]", "reservoir.piece_edge=drop"]
    config = load_config("digits", overrides)
    assert Sequencer.of(config.reservoir) == Sequencer("patches", (4, 2), (4, 2), "drop")
    strided = load_config("digits", [*overrides, "reservoir.piece_stride=[2, 1]"])
    assert Sequencer.of(strided.reservoir) == Sequencer("patches", (4, 2), (2, 1), "drop")
    assert Sequencer.of(load_config("digits").reservoir) == Sequencer("both")


def test_a_reservoir_reads_patches_and_windows_of_unequal_sequences():
    settings = parse_config(
        {"reservoir": {"nodes": 20, "density": 0.3, "sequence": "windows", "piece_size": [3], "piece_edge": "drop"}}, ""
    ).reservoir
    x = np.random.default_rng(0).normal(size=(3, 11, 2)).astype(np.float32)
    reservoir, lengths = Reservoir(settings, 6), [11, 5, 8]
    result = reservoir.compute(x, lengths=lengths)
    for row, length in enumerate(lengths):
        alone = reservoir.drive(x[row : row + 1, :length])
        torch.testing.assert_close(result[row : row + 1], alone, atol=1e-6, rtol=0)
