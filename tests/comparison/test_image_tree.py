"""The tree of JPEG images: order, sizes, the same files after a kill, and refusals before anything is written."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rcdp_hpc.comparison.paper import image_tree
from rcdp_hpc.comparison.paper.image_order import SmallImages
from rcdp_hpc.comparison.paper.image_tree import TreeSettings, file_bytes, write_tree
from rcdp_hpc.config import DataSection
from rcdp_hpc.errors import InputError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.digests import read_sealed

SMALL = TreeSettings(side=24, quality=90)
COUNTS = (60, 30, 30)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> DataSection:
    random, path = np.random.default_rng(0), tmp_path_factory.mktemp("source") / "images.npz"
    x = random.integers(0, 256, (sum(COUNTS), 8, 8, 3), dtype=np.uint8)
    np.savez(path, x=x, y=np.repeat(["a cat", "dog", "é/3"], COUNTS))
    return DataSection(source="npz", path=str(path), kind="images")


@pytest.fixture(scope="module")
def small(data) -> SmallImages:
    return SmallImages.of(data)


def content(folder: Path) -> dict[str, str]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def test_every_beginning_of_the_order_has_the_classes_in_their_proportions(small):
    order = small.order(3)
    assert sorted(order.tolist()) == list(range(sum(COUNTS)))
    for length in (4, 12, 40, 100):
        counts = np.bincount(small.labels[order[:length]], minlength=3)
        assert np.abs(counts - length * np.array(COUNTS) / sum(COUNTS)).max() <= 1
    assert np.array_equal(order, small.order(3))
    assert not np.array_equal(order, small.order(4))


def test_a_tree_has_its_size_and_the_images_of_its_source(small, tmp_path):
    tree = write_tree(tmp_path / "tree", small, 30_000, SMALL)
    files = sorted((tmp_path / "tree").rglob("*.jpg"), key=lambda file: file.stem)
    assert sum(file.stat().st_size for file in files) == tree.bytes >= 30_000
    # The last image is the one that reaches the size.
    assert tree.bytes - files[-1].stat().st_size < 30_000
    assert [int(file.stem) for file in files] == list(range(tree.images))
    assert {file.parent.name for file in files} == {"a_cat", "dog", "é_3"}
    order = small.order(0)
    for place, file in enumerate(files[:8]):
        assert file.parent.name == small.folders[small.labels[order[place]]]
        with Image.open(file) as image:
            assert (image.size, image.format) == ((24, 24), "JPEG")
            found = np.asarray(image.resize((8, 8), Image.Resampling.BOX), float)
        (expected,) = small.pixels(order[place : place + 1])
        assert np.abs(found - expected).mean() < 40
        assert np.corrcoef(found.ravel(), expected.ravel().astype(float))[0, 1] > 0.8
    assert tree.label == "npz up-scaled from 8 x 8 to 24 x 24 pixels (bicubic), JPEG quality 90"
    record = read_sealed(tmp_path / "tree.json")
    assert (record["label"], record["images"], record["bytes"]) == (tree.label, tree.images, tree.bytes)


def test_a_smaller_tree_is_the_beginning_of_a_larger_one_and_a_larger_one_shrinks(small, tmp_path):
    whole = write_tree(tmp_path / "one", small, 50_000, SMALL)
    write_tree(tmp_path / "two", small, 20_000, SMALL)
    first = content(tmp_path / "two")
    assert first.items() < content(tmp_path / "one").items()
    assert write_tree(tmp_path / "two", small, 50_000, SMALL).images == whole.images
    assert content(tmp_path / "two") == content(tmp_path / "one")
    write_tree(tmp_path / "one", small, 20_000, SMALL)
    assert content(tmp_path / "one") == first


def test_damaged_and_missing_files_are_written_again(small, tmp_path):
    folder = tmp_path / "tree"
    write_tree(folder, small, 40_000, SMALL)
    expected, files = content(folder), sorted(folder.rglob("*.jpg"))
    files[3].unlink()
    os.truncate(files[7], 100)
    os.truncate(files[9], 0)
    kept = files[0].stat().st_mtime_ns
    write_tree(folder, small, 40_000, SMALL)
    assert content(folder) == expected
    assert files[0].stat().st_mtime_ns == kept


KILLED = """
import sys
from pathlib import Path
from rcdp_hpc.comparison.paper.image_order import SmallImages
from rcdp_hpc.comparison.paper.image_tree import TreeSettings, write_tree
from rcdp_hpc.config import DataSection
small = SmallImages.of(DataSection(source="npz", path=sys.argv[1], kind="images"))
write_tree(Path(sys.argv[2]), small, int(sys.argv[3]), TreeSettings(side=600, quality=100))
"""


def test_a_killed_writer_leaves_no_half_image_and_the_next_one_ends_with_the_same_files(data, small, tmp_path):
    settings, size = TreeSettings(side=600, quality=100), 6_000_000
    command = [sys.executable, "-c", KILLED, data.path, str(tmp_path / "killed"), str(size)]
    process = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while len(list((tmp_path / "killed").rglob("*.jpg"))) < 3 and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    for file in (tmp_path / "killed").rglob("*.jpg"):
        with Image.open(file) as image:
            image.load()
    write_tree(tmp_path / "killed", small, size, settings)
    write_tree(tmp_path / "whole", small, size, settings)
    assert content(tmp_path / "killed") == content(tmp_path / "whole")


def test_a_stop_signal_keeps_what_is_written(small, tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "_received", [signal.SIGUSR1])
    with pytest.raises(StoppedError, match="SIGUSR1 after 1 images"):
        write_tree(tmp_path / "tree", small, 40_000, SMALL)
    monkeypatch.setattr(signals, "_received", [])
    write_tree(tmp_path / "tree", small, 40_000, SMALL)
    write_tree(tmp_path / "whole", small, 40_000, SMALL)
    assert content(tmp_path / "tree") == content(tmp_path / "whole")


def test_too_little_space_and_too_few_images_are_refused_before_anything_is_written(small, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="but the source has 120, and each is used once: choose a larger side"):
        write_tree(tmp_path / "new/tree", small, 10**8, SMALL)
    needed = 40_000 + 4096 * 40_000 / file_bytes(small, SMALL)
    monkeypatch.setattr(image_tree, "free_bytes", lambda folder: needed - 2)
    with pytest.raises(InputError, match="needs 0 MiB more, but its disk has 0 MiB free"):
        write_tree(tmp_path / "new/tree", small, 40_000, SMALL)
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(image_tree, "free_bytes", lambda folder: needed)
    write_tree(tmp_path / "new/tree", small, 40_000, SMALL)
    # What exists needs no more space.
    monkeypatch.setattr(image_tree, "free_bytes", lambda folder: 0)
    write_tree(tmp_path / "new/tree", small, 40_000, SMALL)


def test_folders_of_others_and_other_settings_are_refused(small, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/photo.jpg").write_bytes(b"photo")
    with pytest.raises(InputError, match=r"has content, but no mine\.json next to it"):
        write_tree(tmp_path / "mine", small, 20_000, SMALL)
    write_tree(tmp_path / "tree", small, 20_000, SMALL)
    with pytest.raises(InputError, match="was written with quality = 90, now it is 80"):
        write_tree(tmp_path / "tree", small, 20_000, TreeSettings(side=24, quality=80))


def test_only_images_of_8_bits_are_taken(tmp_path):
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((20, 8, 8)), y=np.arange(20) % 2)
    with pytest.raises(InputError, match="images of 8 bits, grey or in colour: choose a source such as 'cifar10'"):
        SmallImages.of(DataSection(source="npz", path=str(tmp_path / "x.npz"), kind="images"))
