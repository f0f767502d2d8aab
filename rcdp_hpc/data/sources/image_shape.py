"""Choose size and channels of images from the headers of their files, if the configuration does not set them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TypeVar

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.image_files import FORMATS
from rcdp_hpc.data.sources.image_pixels import DecodeMemory, is_grey, orientation_of
from rcdp_hpc.runtime.threads import available_cores

# Side in pixels to which images are resized, unless all have the same smaller size.
SIDE = 64
BLOCK = 256

Header = tuple[int, int, bool]
T = TypeVar("T")


def shape_of(files: list[Path], data: DataSection, findings: Findings) -> tuple[int, int, int]:
    """Return height, width and channels of the samples.

    Parameters
    ----------
    files : list of Path
        All images, training and test.
    data : DataSection
        ``image_size`` and ``image_channels``; the images decide what is not set.
    findings : Findings
        Receives the decisions.
    """
    memory = DecodeMemory(Budget.of(data))
    if data.image_size:
        height, width = data.image_size
    else:
        common = _common(files, memory, lambda header: header[:2] if max(header[:2]) <= SIDE else None)
        height, width = common or (SIDE, SIDE)
        why = "the size of all images" if common else "images differ in size, or are larger"
        findings.assumed.append(f"data.image_size = [{height}, {width}]: {why}")
    if data.image_channels:
        return height, width, data.image_channels
    grey = _common(files, memory, lambda header: header[2] or None)
    findings.assumed.append(f"data.image_channels = {1 if grey else 3}: {'all images are grey' if grey else 'colour'}")
    return height, width, 1 if grey else 3


def headers(files: list[Path], memory: DecodeMemory) -> Iterator[Header | None]:
    """Yield height, width and whether it is grey for each image; None if the header cannot be read."""
    files_left = iter(files)
    with ThreadPoolExecutor(available_cores()) as pool:
        while block := list(islice(files_left, BLOCK)):
            yield from pool.map(lambda file: read_header(file, memory), block)


def read_header(file: Path, memory: DecodeMemory) -> Header | None:
    """Return height and width of the upright image and whether it is grey; None if the header cannot be read."""
    from PIL import Image

    try:
        with Image.open(file, formats=tuple(FORMATS)) as image, ExitStack() as stack:
            width, height = image.size
            if image.format == "PNG" and "exif" not in image.info:
                # Pillow decodes the whole image to find the orientation.
                stack.enter_context(memory.of(image, file))
            # Pillow already exchanges height and width of a TIFF.
            turned = image.format != "TIFF" and orientation_of(image) > 4
            return (width, height, is_grey(image)) if turned else (height, width, is_grey(image))
    except Exception:
        # The decoder reports the error later.
        return None


def _common(files: list[Path], memory: DecodeMemory, value_of: Callable[[Header], T | None]) -> T | None:
    """Return the value that all readable headers share; None if they differ or a header has no value."""
    common: T | None = None
    for header in headers(files, memory):
        if header is None:
            continue
        value = value_of(header)
        if value is None or (common is not None and value != common):
            return None
        common = value
    return common
