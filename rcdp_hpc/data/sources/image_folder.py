"""Images in one folder per class (ImageNet's layout), decoded by Pillow on all cores."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.memory import Budget
from rcdp_hpc.data.sources.base import NewSamples, Part, Source, default_scale
from rcdp_hpc.data.sources.rows import fits
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import available_cores

log = logging.getLogger(__name__)

SUFFIXES = (".jpg", ".jpeg", ".png")
BLOCK_IMAGES = 256
NAMED = 5


def read_source(path: Path, data: DataSection, budget: Budget, progress: bool = False) -> Source:
    """Read images: ``path/CLASS/*.png``, or ``path/train/CLASS/`` with ``path/test/CLASS/`` or ``path/val/CLASS/``.

    The shorter side is resized, and the middle cut out. Every image is decoded once at the beginning, to know which
    are corrupt; those that do not fit in memory are decoded again whenever they are needed.

    Parameters
    ----------
    path : Path
        The folder.
    data : DataSection
        ``image_size``, ``image_channels``, ``corrupt_images`` and ``test_path``.
    budget : Budget
        What of the decoded images is held.
    progress : bool
        Show progress.

    Raises
    ------
    InputError
        If Pillow is missing, there is no class folder or a class without images, or an image is corrupt and
        ``data.corrupt_images`` is "fail".
    """
    _need_pillow(path)
    if not path.is_dir():
        raise InputError(f"data.path = {path}: no such folder.")
    train_folder = path / "train" if (path / "train").is_dir() else path
    test_folder = _test_folder(path, data.test_path)
    classes = _folders(train_folder)
    if not classes:
        raise InputError(f"{train_folder}: no folders there; one is needed for each class, with its images.")
    train = _part(train_folder, classes, data, budget, progress)
    empty = np.flatnonzero(np.bincount(train.y, minlength=len(classes)) == 0)
    if len(empty):
        raise InputError(
            f"{train_folder / classes[empty[0]]}: no readable image ({', '.join(SUFFIXES)}) of this class."
        )
    test = None
    if test_folder is not None:
        unknown = [name for name in _folders(test_folder) if name not in classes]
        if unknown:
            raise InputError(f"{test_folder}: class {unknown[0]!r} does not occur in {train_folder}.")
        test = _part(test_folder, classes, data, budget, progress)
    height, width = data.image_size
    return Source(
        kind="images",
        name="image_folder",
        classes=classes,
        train=train,
        test=test,
        scale=default_scale(np.dtype(np.uint8)),
        description=f"{path.name}: {len(train)} images of {height}x{width}x{data.image_channels}"
        + ("" if test is None else f", {len(test)} for the test"),
    )


def read_samples(path: Path, data: DataSection, budget: Budget) -> NewSamples:
    """Return the images of a folder, subfolders included, in the order of their names; errors as in `read_source`."""
    _need_pillow(path)
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{path}: no image ({', '.join(SUFFIXES)}) there.")
    return NewSamples(ImageRows(files, data), ids=[str(file.relative_to(path)) for file in files], id_name="file")


class ImageRows:
    """Images that are decoded when they are asked for.

    Parameters
    ----------
    files : sequence of Path
        One for each image.
    data : DataSection
        ``image_size`` and ``image_channels``.
    """

    def __init__(self, files: Sequence[Path], data: DataSection) -> None:
        self.files = list(files)
        self._size = (data.image_size[0], data.image_size[1])
        self._channels = data.image_channels
        self.shape: tuple[int, ...] = (len(self.files), *self._size, self._channels)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        chosen = np.arange(len(self.files))[rows]
        with ThreadPoolExecutor(available_cores()) as pool:
            images = list(pool.map(lambda row: decode(self.files[row], self._size, self._channels), chosen.tolist()))
        return np.stack(images) if images else np.empty((0, *self.shape[1:]), np.uint8)


def decode(file: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """Return an image, resized so that it covers `size`, and cut to it around its middle.

    Returns
    -------
    ndarray of uint8, shape (height, width, channels)

    Raises
    ------
    InputError
        If it is corrupt, empty or no image.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(file, formats=("JPEG", "PNG")) as image:
            height, width = size
            fitted = ImageOps.fit(image.convert("RGB" if channels == 3 else "L"), (width, height))
            return np.asarray(fitted, np.uint8).reshape(height, width, channels)
    except FileNotFoundError:
        raise InputError(f"{file}: no such file.") from None
    except Exception as error:
        # Pillow raises whatever a decoder meets, SyntaxError and struct.error included.
        empty = file.stat().st_size == 0
        raise InputError(f"{file}: corrupt image ({'no bytes in it' if empty else error}).") from None


def _part(folder: Path, classes: list[str], data: DataSection, budget: Budget, progress: bool) -> Part:
    files, labels = [], []
    for label, name in enumerate(classes):
        if (folder / name).is_dir():
            found = sorted(file for file in (folder / name).rglob("*") if file.suffix.lower() in SUFFIXES)
            files += found
            labels += [label] * len(found)
    if not files:
        raise InputError(f"{folder}: no image ({', '.join(SUFFIXES)}) in the folders of its classes.")
    good, held = _decode_all(files, data, budget, progress)
    kept = [file for file, fine in zip(files, good, strict=True) if fine]
    y = np.array(labels, np.int64)[good]
    return Part(ImageRows(kept, data) if held is None else held[: len(kept)], y)


def _decode_all(
    files: list[Path], data: DataSection, budget: Budget, progress: bool
) -> tuple[NDArray[np.bool_], NDArray[np.uint8] | None]:
    """Decode every image; return which are whole and, where they all fit, the whole ones."""
    size, channels = (data.image_size[0], data.image_size[1]), data.image_channels
    shape = (len(files), *size, channels)
    held = np.empty(shape, np.uint8) if fits(shape, np.dtype(np.uint8), budget.source // 2) else None
    good = np.ones(len(files), bool)
    problems: list[str] = []

    def attempt(file: Path) -> NDArray[np.uint8] | InputError:
        try:
            return decode(file, size, channels)
        except InputError as error:
            return error

    with (
        ThreadPoolExecutor(available_cores()) as pool,
        Progress("images", len(files), "images", enabled=progress) as bar,
    ):
        for start in range(0, len(files), BLOCK_IMAGES):
            block = files[start : start + BLOCK_IMAGES]
            for place, image in enumerate(pool.map(attempt, block), start):
                if isinstance(image, InputError):
                    good[place] = False
                    problems.append(str(image))
                elif held is not None:
                    held[place - len(problems)] = image
            bar.advance(len(block))
            if problems and data.corrupt_images == "fail":
                break
    if problems and data.corrupt_images == "fail":
        raise InputError(f"{problems[0]} Mend or remove it, or set data.corrupt_images = 'skip'.")
    for problem in problems[:NAMED]:
        log.warning("skipped: %s", problem)
    if len(problems) > NAMED:
        log.warning("skipped %d more corrupt images", len(problems) - NAMED)
    return good, held


def _test_folder(path: Path, test_path: str) -> Path | None:
    if test_path:
        if not Path(test_path).is_dir():
            raise InputError(f"data.test_path = {test_path}: no such folder.")
        return Path(test_path)
    if (path / "train").is_dir():
        return next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    return None


def _folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _need_pillow(path: Path) -> None:
    try:
        import PIL  # noqa: F401
    except ModuleNotFoundError:
        raise InputError(f"{path}: images are read by Pillow, which is missing: pip install Pillow.") from None
