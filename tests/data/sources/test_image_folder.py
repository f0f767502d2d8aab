import logging

import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.errors import InputError

Image = pytest.importorskip("PIL.Image")
COLOURS = {"blue": (0, 0, 200), "red": (200, 0, 0)}


def write_images(folder, count=3, size=(20, 12), suffix=".png"):
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            Image.new("RGB", size, colour).save(folder / name / f"{number}{suffix}")
    return folder


def test_one_folder_for_each_class(tmp_path):
    source = opened("image_folder", write_images(tmp_path / "d"), image_size=[8, 10])
    assert source.classes == ["blue", "red"]
    assert source.train.y.tolist() == [0, 0, 0, 1, 1, 1]
    assert source.sample_shape == (8, 10, 3)
    assert source.scale == 1 / 255
    x = everything(source.train)
    assert x[0, 4, 4].tolist() == [0, 0, 200]
    assert x[5, 7, 9].tolist() == [200, 0, 0]


def test_jpeg_and_grey(tmp_path):
    source = opened("image_folder", write_images(tmp_path / "d", suffix=".JPEG"), image_size=[6, 6], image_channels=1)
    assert source.sample_shape == (6, 6, 1)
    # ITU-R 601: 0.114 of blue, 0.299 of red.
    np.testing.assert_allclose(everything(source.train)[[0, 5], 3, 3, 0], [23, 60], atol=2)


def test_the_centre_is_cropped(tmp_path):
    write_images(tmp_path / "d")
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "d/blue/0.png")
    x = everything(opened("image_folder", tmp_path / "d", image_size=[10, 10]).train)
    assert (x[0] == 255).all()


@pytest.mark.parametrize("test_name", ["test", "val"])
def test_train_and_test_folders(tmp_path, test_name):
    write_images(tmp_path / "train")
    write_images(tmp_path / test_name, 2)
    source = opened("image_folder", tmp_path)
    assert (len(source.train), len(source.test)) == (6, 4)
    (tmp_path / test_name / "green").mkdir()
    with pytest.raises(InputError, match="class 'green' does not occur"):
        opened("image_folder", tmp_path)


def test_images_beyond_the_budget_are_decoded_when_needed(tmp_path):
    folder = write_images(tmp_path / "d", 6)
    held = opened("image_folder", folder, image_size=[128, 128])
    streamed = opened("image_folder", folder, image_size=[128, 128], memory_budget=1)
    assert not isinstance(streamed.train.x, np.ndarray)
    rows = np.array([11, 0, 3])
    np.testing.assert_array_equal(streamed.train.x[rows], held.train.x[rows])


@pytest.mark.parametrize("content", [b"", b"no image at all"])
def test_a_corrupt_image_is_named(tmp_path, caplog, content):
    folder = write_images(tmp_path / "d", 4)
    (folder / "blue/2.png").write_bytes(content)
    with pytest.raises(InputError, match=r"blue/2\.png: corrupt image.*corrupt_images = 'skip'"):
        opened("image_folder", folder)
    for budget in (4096, 1):
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            source = opened("image_folder", folder, corrupt_images="skip", memory_budget=budget, image_size=[256, 256])
        assert "blue/2.png" in caplog.text
        assert source.train.y.tolist() == [0, 0, 0, 1, 1, 1, 1]
        assert everything(source.train)[3, 5, 5].tolist() == [200, 0, 0]


def test_an_image_that_is_cut_short(tmp_path):
    folder = write_images(tmp_path / "d")
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folder / "red/1.png")
    data = (folder / "red/1.png").read_bytes()
    (folder / "red/1.png").write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match=r"red/1\.png: corrupt image"):
        opened("image_folder", folder)


def test_folders_without_images(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        opened("image_folder", tmp_path / "gone")
    (tmp_path / "d").mkdir()
    with pytest.raises(InputError, match="one is needed for each class"):
        opened("image_folder", tmp_path / "d")
    write_images(tmp_path / "e")
    (tmp_path / "e" / "empty").mkdir()
    with pytest.raises(InputError, match="empty: no readable image"):
        opened("image_folder", tmp_path / "e")
