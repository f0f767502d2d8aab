"""A folder tree of JPEG images of a chosen total size: small images, up-scaled; one folder for each class.

The images are those of a source such as CIFAR-10, each at most once, so that no two files show the same image. They
have no more detail than the small ones: only their files and the work to read them are those of large images.
"""

from __future__ import annotations

import io
import logging
import os
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.comparison.paper.image_order import SmallImages
from rcdp_hpc.errors import InputError, StoppedError
from rcdp_hpc.runtime import signals
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.runtime.files import free_bytes, os_errors_explained
from rcdp_hpc.runtime.leftovers import remove_leftovers, temporary_files
from rcdp_hpc.runtime.owners import temporary_name
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.ram import MIB
from rcdp_hpc.runtime.threads import available_cores

log = logging.getLogger(__name__)

# Images that a thread writes at once.
CHUNK = 16
# Images whose mean size predicts the number of files.
SAMPLE = 64
# Disk space of a file beyond its bytes, and of folders.
FILE_SLACK = 4096
LAST_BYTES = b"\xff\xd9"


@dataclass(frozen=True)
class TreeSettings:
    """How images are written.

    Attributes
    ----------
    side : int
        Width and height in pixels. Together with `quality`, the default gives files of about 160 KB, as photographs
        have, so that 60,000 images are more than 8 GiB.
    quality : int
        JPEG quality, 1 to 100; colours are not subsampled.
    seed : int
        Decides the order in which images are taken.
    """

    side: int = 560
    quality: int = 100
    seed: int = 0


@dataclass(frozen=True)
class ImageTree:
    """A tree that is complete.

    Attributes
    ----------
    folder : Path
    label : str
        What the images are, for every table and log that mentions them.
    images : int
    bytes : int
        Size of all files.
    """

    folder: Path
    label: str
    images: int
    bytes: int


def write_tree(
    folder: Path, small: SmallImages, total_bytes: int, settings: TreeSettings | None = None, progress: bool = False
) -> ImageTree:
    """Write images until their files have at least `total_bytes`; the last image is the one that reaches them.

    The files are the same for the same source, settings and version of Pillow, and a smaller tree is the beginning of a
    larger one. Each file is renamed when it is complete: after a kill, the same call writes those that are missing. A
    larger tree of the same settings loses the images beyond the size.

    Parameters
    ----------
    folder : Path
        ``folder/CLASS/NUMBER.jpg``; ``folder.json`` next to it names the settings.
    small : SmallImages
    total_bytes : int
    settings : TreeSettings, optional
    progress : bool
        Show progress.

    Raises
    ------
    InputError
        If Pillow is missing, the source has too few images, the disk has too little space, or the folder has other
        content.
    StoppedError
        If a stop signal arrived; the files that exist are used by the next call.
    """
    settings = settings or TreeSettings()
    writer = _Writer(folder, small, settings)
    with os_errors_explained(folder):
        writer.refuse_other_content()
        writer.refuse_without_room(total_bytes)
        writer.begin()
        written = writer.write(total_bytes, progress)
        writer.remove_beyond(written.images)
        write_sealed(writer.record, {**writer.description(), "images": written.images, "bytes": written.bytes})
    log.info("%s: %d images, %.1f MiB: %s", folder, written.images, written.bytes / MIB, written.label)
    return written


def refuse_impossible_tree(folder: Path, small: SmallImages, total_bytes: int, settings: TreeSettings) -> None:
    """Raise the errors that `write_tree` raises before it writes anything; parameters as there."""
    writer = _Writer(folder, small, settings)
    with os_errors_explained(folder):
        writer.refuse_other_content()
        writer.refuse_without_room(total_bytes)


def file_bytes(small: SmallImages, settings: TreeSettings) -> float:
    """Return the mean size of the first files of a tree, without writing them."""
    numbers = small.order(settings.seed)[:SAMPLE]
    sizes = [len(_encoded(image, settings)) for image in small.pixels(numbers)]
    return sum(sizes) / len(sizes)


class _Writer:
    """Writes the images of a tree.

    Attributes
    ----------
    order : ndarray of int64, shape (N,)
        Numbers of the small images in the order of the files.
    record : Path
        The file that names the settings.
    """

    def __init__(self, folder: Path, small: SmallImages, settings: TreeSettings) -> None:
        self.folder = folder
        self.small = small
        self.settings = settings
        self.order = small.order(settings.seed)
        self.record = folder.with_name(f"{folder.name}.json")
        self.label = (
            f"{small.name} up-scaled from {small.sides} to {settings.side} x {settings.side} pixels (bicubic), "
            f"JPEG quality {settings.quality}"
        )
        self.existing: dict[int, int] = {}

    def description(self) -> dict[str, Any]:
        """Return what decides the files."""
        settings = {**asdict(self.settings), "source": self.small.description, "pillow": _pillow_version()}
        return {**settings, "label": self.label}

    def refuse_other_content(self) -> None:
        """Raise an `InputError` if the folder has files that another call wrote; find those of earlier calls."""
        if self.record.exists():
            earlier = read_sealed(self.record, f"Delete it and {self.folder}.")
            for name, value in self.description().items():
                if earlier.get(name) != value:
                    raise InputError(
                        f"{self.folder}: was written with {name} = {earlier.get(name)!r}, now it is {value!r}: choose "
                        "another folder, or delete this one"
                    )
        elif self.folder.exists() and any(self.folder.iterdir()):
            raise InputError(f"{self.folder}: has content, but no {self.record.name} next to it: choose another folder")
        remove_leftovers(temporary_files(self.folder / name for name in self.small.folders))
        for file in self._files():
            if _is_whole(file):
                self.existing[int(file.stem)] = file.stat().st_size

    def refuse_without_room(self, total_bytes: int) -> None:
        """Raise an `InputError` if there are too few small images, or too little space on the disk."""
        mean = file_bytes(self.small, self.settings)
        if mean * len(self.order) < total_bytes:
            raise InputError(
                f"{self.folder}: {total_bytes / MIB:.0f} MiB need about {total_bytes / mean:.0f} images of "
                f"{self.settings.side} x {self.settings.side} pixels, but the source has {len(self.order)}, and each "
                "is used once: choose a larger side, or a smaller tree"
            )
        missing = max(0, total_bytes - sum(self.existing.values()))
        needed = missing + int(FILE_SLACK * missing / mean)
        place = next(parent for parent in (self.folder, *self.folder.parents) if parent.exists())
        free = free_bytes(place)
        if free < needed:
            raise InputError(
                f"{self.folder}: needs {needed / MIB:.0f} MiB more, but its disk has {free / MIB:.0f} MiB free: choose "
                "another disk, or a smaller tree"
            )

    def begin(self) -> None:
        """Make the folders and write the settings."""
        for name in self.small.folders:
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        if not self.record.exists():
            write_sealed(self.record, self.description())

    def write(self, total_bytes: int, progress: bool) -> ImageTree:
        """Write the images that are missing, in order, until there are `total_bytes`."""
        count = total = 0
        # Closing the sizes waits for the threads, which may be writing images beyond the last one.
        with Progress("images", total_bytes // MIB, "MiB", enabled=progress) as bar, closing(self._sizes()) as sizes:
            for size in sizes:
                shown = total // MIB
                count, total = count + 1, total + size
                bar.advance(min(total, total_bytes) // MIB - min(shown, total_bytes // MIB))
                if total >= total_bytes:
                    break
                if signals.stop_requested():
                    raise StoppedError(
                        f"{self.folder}: stopped by {signals.received_name()} after {count} images: the same call "
                        "continues"
                    )
        if total < total_bytes:
            raise InputError(
                f"{self.folder}: all {count} images of the source have {total / MIB:.0f} MiB together, not "
                f"{total_bytes / MIB:.0f}: choose a larger side, or a smaller tree"
            )
        return ImageTree(self.folder, self.label, count, total)

    def remove_beyond(self, count: int) -> None:
        """Remove images that follow the last one: of a larger tree, or of threads that were ahead."""
        for file in self._files():
            if int(file.stem) >= count:
                file.unlink()

    def _sizes(self) -> Generator[int]:
        """Yield the size of each file, in order; threads are a few chunks ahead."""
        cores = available_cores()
        starts = iter(range(0, len(self.order), CHUNK))
        with ThreadPoolExecutor(cores) as pool:
            running: deque[Future[list[int]]] = deque(
                pool.submit(self._write_chunk, start) for start in islice(starts, 2 * cores)
            )
            try:
                while running:
                    sizes = running.popleft().result()
                    for start in islice(starts, 1):
                        running.append(pool.submit(self._write_chunk, start))
                    yield from sizes
            finally:
                for future in running:
                    future.cancel()

    def _write_chunk(self, start: int) -> list[int]:
        """Write the missing images of a chunk; return the sizes of all of its files."""
        places = range(start, min(start + CHUNK, len(self.order)))
        missing = [place for place in places if place not in self.existing]
        images = self.small.pixels(self.order[missing]) if missing else []
        written = {place: self._write(place, image) for place, image in zip(missing, images, strict=True)}
        return [written[place] if place in written else self.existing[place] for place in places]

    def _write(self, place: int, image: NDArray[np.uint8]) -> int:
        """Write one image under a temporary name and rename it; return its size."""
        name = f"{place:07d}.jpg"
        folder = self.folder / self.small.folders[self.small.labels[self.order[place]]]
        temporary = folder / temporary_name(name)
        with temporary.open("wb") as file:
            _encode(image, self.settings, file)
        size = temporary.stat().st_size
        os.replace(temporary, folder / name)
        return size

    def _files(self) -> Iterator[Path]:
        """Yield the images of the tree."""
        for name in self.small.folders:
            folder = self.folder / name
            if folder.is_dir():
                yield from (file for file in folder.iterdir() if file.suffix == ".jpg" and file.stem.isdecimal())


def _encode(image: NDArray[np.uint8], settings: TreeSettings, file: Any) -> None:
    from PIL import Image

    large = Image.fromarray(image).resize((settings.side, settings.side), Image.Resampling.BICUBIC)
    # Written to a file of the system, Pillow does the work without holding up other threads.
    large.save(file, "JPEG", quality=settings.quality, subsampling=0)


def _encoded(image: NDArray[np.uint8], settings: TreeSettings) -> bytes:
    with io.BytesIO() as file:
        _encode(image, settings, file)
        return file.getvalue()


def _is_whole(file: Path) -> bool:
    """Return whether a file ends as a JPEG image does; after a crash of the machine, a renamed file may be empty."""
    size = file.stat().st_size
    if size < len(LAST_BYTES):
        return False
    with file.open("rb") as stream:
        stream.seek(-len(LAST_BYTES), os.SEEK_END)
        return stream.read() == LAST_BYTES


def _pillow_version() -> str:
    try:
        import PIL
    except ModuleNotFoundError:
        raise InputError("JPEG images are written by Pillow, which is missing: pip install Pillow") from None
    return str(PIL.__version__)
