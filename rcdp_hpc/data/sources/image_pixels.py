"""Decode an image file to 8-bit pixels: orientation, transparency, 16 bits, palettes, colour and size."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.image_files import FORMATS, READ, shown
from rcdp_hpc.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

GREY_MODES = ("1", "L", "LA", "La", "I", "F")
BACKGROUND = {"white": 255, "grey": 128, "black": 0}
ORIENTATION = 0x0112
# Bytes per pixel while an image is decoded: Pillow's image (4 bytes, also for RGB), the decoder's buffer, and copies in
# other modes.
PLAIN_BYTES = 6
OPAQUE_BYTES = 12
ALPHA_BYTES = 20
# Formats and modes that need PLAIN_BYTES.
PLAIN_FORMATS = {"PNG", "BMP", "PPM"}
PLAIN_MODES = {"RGB", "L", "P", "1"}


class PixelError(InputError):
    """The meaning of the pixels is unknown: the image is refused even if corrupt images are skipped."""


@dataclass(frozen=True)
class PixelRule:
    """Rules for reading pixels.

    Attributes
    ----------
    size : tuple of int
        Height and width.
    channels : {1, 3}
    background : int
        Grey level that replaces transparent pixels.
    bits : int
        Number of bits that values of 16-bit images use.
    """

    size: tuple[int, int]
    channels: int
    background: int = 255
    bits: int = 16

    @classmethod
    def of(cls, data: DataSection, shape: tuple[int, ...]) -> PixelRule:
        """Return the rule of a configuration, for samples of `shape` (height, width, channels)."""
        return cls((shape[0], shape[1]), shape[2], BACKGROUND[data.image_background], data.image_bits)


@dataclass(frozen=True)
class PixelFacts:
    """Facts about an image before its pixels were changed.

    Attributes
    ----------
    size : tuple of int
        Height and width, upright.
    grey, transparent, turned, animated : bool
    deepest : int
        Largest value of a 16-bit image; -1 for an 8-bit image.
    """

    size: tuple[int, int]
    grey: bool
    transparent: bool
    turned: bool
    animated: bool
    deepest: int


def need_pillow(path: Path) -> None:
    """Raise an `InputError` if Pillow is missing."""
    try:
        from PIL import Image
    except ModuleNotFoundError:
        raise InputError(f"{path}: images are read by Pillow, which is missing: pip install Pillow.") from None
    # Pillow warns about large images and refuses those beyond twice its limit.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)


class DecodeMemory:
    """Limits the number of images that are decoded at the same time, so that their memory is within the share for work.

    Parameters
    ----------
    budget : Budget
    """

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._free = budget.work
        self._changed = threading.Condition()

    @contextmanager
    def of(self, image: Image.Image, file: Path) -> Iterator[None]:
        """Wait until there is enough free memory to decode an image whose header was read.

        Raises
        ------
        PixelError
            If the image needs more than the share for work.
        """
        needed = image.width * image.height * _decoding_bytes(image)
        try:
            what = f"{shown(file)}: an image of {image.width} x {image.height} pixels is decoded in one piece"
            self._budget.refuse_work(what, needed, "make it smaller, or leave it out")
        except InputError as error:
            raise PixelError(str(error)) from None
        with self._changed:
            self._changed.wait_for(lambda: self._free >= needed)
            self._free -= needed
        try:
            yield
        finally:
            with self._changed:
                self._free += needed
                self._changed.notify_all()


def decode(file: Path, rule: PixelRule, memory: DecodeMemory) -> tuple[NDArray[np.uint8], PixelFacts]:
    """Return the pixels of an upright image, resized to cover the size and cropped around the centre, and its facts.

    Parameters
    ----------
    file : Path
    rule : PixelRule
    memory : DecodeMemory

    Returns
    -------
    pixels : ndarray of uint8, shape (height, width, channels)
    facts : PixelFacts

    Raises
    ------
    InputError
        If the file is corrupt, empty, not an image or too large.
    PixelError
        If the pixels are floats or integers beyond the bits, or the image needs too much memory.
    """
    from PIL import Image

    try:
        with Image.open(file, formats=tuple(FORMATS)) as image, memory.of(image, file):
            return _decoded(image, file, rule)
    except PixelError:
        raise
    except Exception as error:
        # Pillow passes on any exception of a decoder, even SyntaxError and struct.error.
        raise _refused(file, error) from None


def _decoding_bytes(image: Image.Image) -> int:
    """Return the bytes per pixel while an image is decoded, by its header."""
    if image.has_transparency_data:
        return ALPHA_BYTES
    is_plain = image.format in PLAIN_FORMATS and image.mode in PLAIN_MODES and "exif" not in image.info
    return PLAIN_BYTES if is_plain else OPAQUE_BYTES


def _decoded(image: Image.Image, file: Path, rule: PixelRule) -> tuple[NDArray[np.uint8], PixelFacts]:
    from PIL import ImageOps

    animated = image.format not in ("JPEG", "MPO") and getattr(image, "is_animated", False)
    image.load()
    grey, orientation = is_grey(image), orientation_of(image)
    plain, transparent, deepest = _eight_bits(image, rule, file)
    if orientation != 1:
        plain = _upright(plain, orientation)
    facts = PixelFacts((plain.height, plain.width), grey, transparent, orientation != 1, bool(animated), deepest)
    fitted = ImageOps.fit(_in_mode(plain, "RGB" if rule.channels == 3 else "L"), (rule.size[1], rule.size[0]))
    return np.asarray(fitted, np.uint8).reshape(*rule.size, rule.channels), facts


def _in_mode(image: Image.Image, mode: str) -> Image.Image:
    """Return an image in a mode, without the copy that Pillow makes if the image has the mode already."""
    return image if image.mode == mode else image.convert(mode)


def is_grey(image: Image.Image) -> bool:
    """Return whether an image is stored without colour."""
    if image.mode == "P":
        palette = np.array(image.getpalette("RGB") or [], np.uint8)
        palette = palette[: len(palette) // 3 * 3].reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in GREY_MODES or image.mode.startswith("I;16")


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if there is none, or it cannot be read."""
    try:
        orientation = image.getexif().get(ORIENTATION, 1)
    except Exception:
        # Damaged EXIF data do not affect the pixels; viewers show such an image as it is stored.
        return 1
    return orientation if orientation in range(1, 9) else 1


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    from PIL import Image

    ways = Image.Transpose
    return image.transpose(
        {
            2: ways.FLIP_LEFT_RIGHT,
            3: ways.ROTATE_180,
            4: ways.FLIP_TOP_BOTTOM,
            5: ways.TRANSPOSE,
            6: ways.ROTATE_270,
            7: ways.TRANSVERSE,
            8: ways.ROTATE_90,
        }[orientation]
    )


def _eight_bits(image: Image.Image, rule: PixelRule, file: Path) -> tuple[Image.Image, bool, int]:
    """Return an image as L or RGB without transparency, whether it had any, and its largest 16-bit value (or -1)."""
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return _from_sixteen_bits(image, rule, file)
    if not image.has_transparency_data:
        if image.mode in ("1", "L") or (image.mode == "P" and is_grey(image)):
            return _in_mode(image, "L"), False, -1
        return _in_mode(image, "RGB"), False, -1
    from PIL import Image as pillow

    grey = is_grey(image)
    if image.mode == "La":
        image = image.convert("LA")
    with_alpha = image.convert("RGBA")
    lowest, _ = with_alpha.getchannel("A").getextrema()
    backdrop = pillow.new("RGBA", with_alpha.size, (rule.background,) * 3 + (255,))
    flat = pillow.alpha_composite(backdrop, with_alpha).convert("L" if grey else "RGB")
    return flat, int(_number(lowest)) < 255, -1


def _from_sixteen_bits(image: Image.Image, rule: PixelRule, file: Path) -> tuple[Image.Image, bool, int]:
    """Return a grey 8-bit image with the highest bits of the 16-bit values."""
    from PIL import Image as pillow

    values = np.asarray(image)
    if values.dtype.kind == "f":
        raise PixelError(
            f"{shown(file)}: its pixels are floats of unknown range. Save it with 8 or 16 bits, or all images "
            "as an array (data.source = 'npz'), which keeps the numbers."
        )
    low, high = int(values.min()), int(values.max())
    if low < 0 or high >= 2**rule.bits:
        raise PixelError(
            f"{shown(file)}: its pixels reach from {low} to {high}, expected 0 to {2**rule.bits - 1} "
            f"(data.image_bits = {rule.bits}). Save it with 8 or 16 bits."
        )
    grey = (values >> (rule.bits - 8)).astype(np.uint8)
    key = image.info.get("transparency")
    transparent = np.asarray(values == key) if isinstance(key, int) else np.zeros(values.shape, bool)
    grey[transparent] = rule.background
    return pillow.fromarray(grey), bool(transparent.any()), high


def _number(value: Any) -> float:
    return float(value[0] if isinstance(value, tuple) else value)


def _refused(file: Path, error: Exception) -> InputError:
    from PIL import Image, UnidentifiedImageError

    name = shown(file)
    if isinstance(error, FileNotFoundError):
        return InputError(f"{name}: no such file.")
    if isinstance(error, PermissionError):
        return InputError(f"{name}: no permission to read it.")
    if isinstance(error, Image.DecompressionBombError):
        return InputError(f"{name}: image too large ({error}). Make it smaller, or leave it out.")
    if file.stat().st_size == 0:
        return InputError(f"{name}: corrupt image (no bytes in it).")
    if isinstance(error, UnidentifiedImageError):
        return InputError(f"{name}: corrupt image, or not {READ}.")
    return InputError(f"{name}: corrupt image ({error}).")
