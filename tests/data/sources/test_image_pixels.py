import numpy as np
import pytest
from data.sources.conftest import everything, opened

from rcdp_hpc.errors import InputError

Image = pytest.importorskip("PIL.Image")


def folder_of(tmp_path, image, name="0.png", **options):
    """Write an image as the only one of class a, and a black one as class b."""
    for part in ("a", "b"):
        (tmp_path / part).mkdir()
    image.save(tmp_path / "a" / name, **options)
    Image.new("L", image.size, 0).save(tmp_path / "b/0.png")
    return tmp_path


def only(source):
    return everything(source.train)[0]


@pytest.mark.parametrize("suffix", [".png", ".tif", ".pgm"])
def test_sixteen_bits_lose_their_low_byte(tmp_path, suffix):
    values = np.array([[0, 255, 256], [4096, 20258, 65535]], np.uint16)
    source = opened("image_folder", folder_of(tmp_path, Image.fromarray(values), "0" + suffix))
    assert only(source)[:, :, 0].tolist() == [[0, 0, 1], [16, 79, 255]]
    assert any("1 of 2 images have 16 bits" in sentence for sentence in source.findings.assumed)


def test_twelve_bits_in_sixteen(tmp_path):
    values = np.array([[0, 16], [2048, 4095]], np.uint16)
    folder = folder_of(tmp_path, Image.fromarray(values))
    dark = opened("image_folder", folder)
    assert any("data.image_bits = 12" in sentence for sentence in dark.findings.warnings)
    assert only(opened("image_folder", folder, image_bits=12))[:, :, 0].tolist() == [[0, 1], [128, 255]]
    with pytest.raises(InputError, match=r"reach from 0 to 4095, expected 0 to 1023"):
        opened("image_folder", folder, image_bits=10)


def test_eight_bit_values_in_sixteen_bits_are_refused(tmp_path):
    folder = folder_of(tmp_path, Image.fromarray(np.array([[0, 200]], np.uint16)))
    with pytest.raises(InputError, match=r"set data\.image_bits = 8"):
        opened("image_folder", folder)
    assert only(opened("image_folder", folder, image_bits=8))[0, :, 0].tolist() == [0, 200]


@pytest.mark.parametrize("values", [np.array([[0.5, 1]], np.float32), np.array([[-1, 70000]], np.int32)])
def test_pixels_of_unknown_range_are_refused(tmp_path, values):
    folder = folder_of(tmp_path, Image.fromarray(values), "0.tif")
    with pytest.raises(InputError, match=r"0\.tif: its pixels"):
        opened("image_folder", folder, corrupt_images="skip")


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif", ".webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path, orientation, suffix):
    upright = np.full((16, 16), 128, np.uint8)
    upright[:8, :8] = 0
    upright[:8, 8:] = 255
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = Image.fromarray(np.ascontiguousarray(stored))
    x = only(opened("image_folder", folder_of(tmp_path, image, "0" + suffix, exif=exif)))[:, :, 0]
    corners = [x[2, 2], x[2, 13], x[13, 2], x[13, 13]]
    np.testing.assert_allclose(np.array(corners, int), [0, 255, 128, 128], atol=4)


@pytest.mark.parametrize(("background", "level"), [("white", 255), ("grey", 128), ("black", 0)])
def test_transparent_pixels_get_one_colour(tmp_path, background, level):
    pixels = np.random.default_rng(0).integers(0, 255, (6, 6, 4), dtype=np.uint8)
    pixels[..., 3] = 0
    pixels[0, 0] = (10, 20, 30, 255)
    folder = folder_of(tmp_path, Image.fromarray(pixels))
    source = opened("image_folder", folder, image_background=background)
    assert only(source)[0, 0].tolist() == [10, 20, 30]
    assert (only(source)[1:] == level).all()
    assert any(
        f"1 of 2 images have transparent pixels, which become {background}" in s for s in source.findings.assumed
    )


def test_a_transparent_palette(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putpixel((0, 0), 0)
    x = only(opened("image_folder", folder_of(tmp_path, image, "0.gif", transparency=1)))
    assert x[0, 0].tolist() == [255, 0, 0]
    assert x[2, 2].tolist() == [255, 255, 255]


@pytest.mark.parametrize(
    ("mode", "colour", "suffix", "expected"),
    [("1", 1, ".png", 255), ("LA", (50, 255), ".png", 50), ("CMYK", (0, 0, 0, 155), ".tif", 100), ("L", 7, ".bmp", 7)],
)
def test_modes(tmp_path, mode, colour, suffix, expected):
    source = opened("image_folder", folder_of(tmp_path, Image.new(mode, (4, 4), colour), "0" + suffix))
    np.testing.assert_allclose(only(source).astype(int), expected, atol=1)
    assert source.sample_shape == (4, 4, 3 if mode == "CMYK" else 1)


@pytest.mark.parametrize("suffix", [".gif", ".png", ".tif", ".webp"])
def test_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.new("RGB", (4, 4), (level, level, 0)) for level in (40, 200)]
    folder = folder_of(tmp_path, frames[0], "0" + suffix, save_all=True, append_images=frames[1:])
    source = opened("image_folder", folder)
    np.testing.assert_allclose(only(source)[2, 2].astype(int), [40, 40, 0], atol=8)
    assert any("1 of 2 images have several frames" in sentence for sentence in source.findings.assumed)


def test_size_and_channels_are_those_of_the_images(tmp_path):
    folder = folder_of(tmp_path, Image.new("L", (28, 20), 9))
    assert opened("image_folder", folder).sample_shape == (20, 28, 1)
    Image.new("RGB", (28, 21), 9).save(folder / "b/1.png")
    source = opened("image_folder", folder)
    assert source.sample_shape == (64, 64, 3)
    assert any("3 of 3 images are smaller than 64 x 64" in sentence for sentence in source.findings.assumed)
    assert any("2 of 3 images are grey in a set with colour" in sentence for sentence in source.findings.assumed)


def test_an_image_beyond_the_limit_of_pixels(tmp_path, monkeypatch):
    folder = folder_of(tmp_path, Image.new("L", (40, 40)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(InputError, match="image too large"):
        opened("image_folder", folder)
