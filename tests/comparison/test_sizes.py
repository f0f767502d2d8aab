"""Table 6 in small: results of each size, resuming, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from rcdp_hpc.comparison.paper import sizes
from rcdp_hpc.comparison.paper.image_tree import TreeSettings
from rcdp_hpc.comparison.paper.sizes import FAR_GIB, GIB, PAPER_SIZES, QUICK_SIZES, measure_sizes, size_settings
from rcdp_hpc.config import DataSection
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.single import SingleProcess
from rcdp_hpc.runtime.digests import read_sealed

SMALL = TreeSettings(side=32, quality=90)
# Bytes of the sizes.
BYTES = (60_000, 90_000, 120_000)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSection:
    """Squares of three colours in noise."""
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("source") / "images.npz"
    y = np.arange(300) % 3
    x = random.integers(0, 100, (len(y), 8, 8, 3), dtype=np.uint8)
    x[np.arange(len(y)), 2:6, 2:6, y] += 120
    np.savez(path, x=x, y=y)
    return DataSection(source="npz", path=str(path), kind="images")


def measured(data, folder, count=3, **options):
    chosen = [size / GIB for size in BYTES[:count]]
    return measure_sizes(data, folder, SingleProcess(), chosen, SMALL, memory_budget=512, **options)


def test_sizes_are_measured_once_and_an_interrupted_stage_again(data, tmp_path, monkeypatch):
    stages, run_stages, killed = [], sizes.run_stages, []

    def counted(names, config, out, *args, **options):
        stages.extend((out.parent.name, name) for name in names)
        if len(stages) == 3 + 3 + 2 and not killed:
            killed.append(True)
            raise KeyboardInterrupt
        return run_stages(names, config, out, *args, **options)

    monkeypatch.setattr(sizes, "run_stages", counted)
    with pytest.raises(KeyboardInterrupt):
        measured(data, tmp_path)
    first, second, third = (f"{size / GIB:g}-gib" for size in BYTES)
    assert stages[3:] == [
        (first, "prepare"),
        (first, "train"),
        (first, "evaluate"),
        (second, "prepare"),
        (second, "train"),
    ]
    stages.clear()
    table = measured(data, tmp_path)
    # The first three are the warm-up.
    assert stages[3:] == [(second, "train"), (second, "evaluate"), *((third, name) for name in sizes.STAGES)]
    stages.clear()
    assert measured(data, tmp_path) == table
    assert not stages
    _check(table)
    assert not (tmp_path / "images").exists()
    assert read_sealed(tmp_path / "sizes.json")["label"] == table.label
    with pytest.raises(InputError, match="was measured with other settings"):
        measured(data, tmp_path, seed=1)


def _check(table):
    assert table.label == "npz up-scaled from 8 x 8 to 32 x 32 pixels (bicubic), JPEG quality 90"
    assert [one.bytes >= asked for one, asked in zip(table.sizes, BYTES, strict=True)] == [True] * 3
    for one in table.sizes:
        assert one.images == sum(one.rows[split] for split in ("train", "validation", "test")) - _synthetic(one)
        assert one.accuracy > 0.8
        assert one.accuracy == one.correct / one.samples
        assert one.seconds["total"] == pytest.approx(sum(one.seconds[stage] for stage in sizes.STAGES))
        assert one.images_per_second == pytest.approx(one.images / one.seconds["prepare"])
        assert all(one.peak_mib[stage] >= one.before_mib[stage] > 50 for stage in sizes.STAGES)
        assert one.held
    assert table.line is not None
    assert table.far is not None
    assert table.line.points == 3
    assert table.far.value == pytest.approx(table.line.intercept + table.line.slope * FAR_GIB)
    assert table.far.half_width > table.far.error > 0
    assert any("all sizes fit in memory" in note for note in table.notes)


def _synthetic(one) -> int:
    """Rows that SMOTE adds: the classes differ by one image at most in each part."""
    added = one.rows["train"] + one.rows["validation"] + one.rows["test"] - one.images
    assert 0 <= added <= 4
    return added


def test_the_papers_sizes_are_decoded_more_than_once_and_the_quick_ones_are_a_32nd():
    config = size_settings("tree")
    assert (PAPER_SIZES, [32 * size for size in QUICK_SIZES]) == ((2, 4, 8), [2, 4, 8])
    assert pytest.approx(465.66, abs=0.01) == FAR_GIB
    # About 150,000 bytes a file: the fewest images, decoded, are more than the eighth of the budget that holds them.
    images = PAPER_SIZES[0] * GIB / 150_000
    assert images * 3 * np.prod(config.data.image_size) > config.data.memory_budget * 2**20 / 8


@pytest.mark.parametrize("wrong", [[], [0.0], [-1.0, 2.0], [2.0, 2.0]])
def test_wrong_sizes_are_refused(data, tmp_path, wrong):
    with pytest.raises(InputError, match="expected different sizes above 0"):
        measure_sizes(data, tmp_path, SingleProcess(), wrong)


def test_a_size_that_the_source_cannot_fill_is_refused_before_the_first_is_measured(data, tmp_path):
    with pytest.raises(InputError, match="but the source has 300, and each is used once"):
        measure_sizes(data, tmp_path / "out", SingleProcess(), [BYTES[0] / GIB, 1.0], SMALL, memory_budget=512)
    assert not (tmp_path / "out").exists()
