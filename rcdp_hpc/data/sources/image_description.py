"""A quick look at a folder of images, by names and headers alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.image_files import list_images
from rcdp_hpc.data.sources.image_layout import find_layout
from rcdp_hpc.data.sources.image_pixels import DecodeMemory, need_pillow
from rcdp_hpc.data.sources.image_shape import headers

MOST_HEADERS = 300


@dataclass(frozen=True)
class ImageDescription:
    """What a folder of images holds.

    Attributes
    ----------
    train : Path
        The folder of the training images.
    test : Path or None
        The folder of the test images.
    counts : dict of str to int
        Training images of each class's folder, by name.
    test_counts : dict of str to int
    sizes : Counter of (int, int)
        Height and width of the images looked at, with how many have it.
    grey : int
        How many of the images looked at are grey.
    looked_at : int
        Images whose header was read.
    findings : Findings
        What was assumed about the folders, and what is left out.
    """

    train: Path
    test: Path | None
    counts: dict[str, int]
    test_counts: dict[str, int]
    sizes: Counter[tuple[int, int]]
    grey: int
    looked_at: int
    findings: Findings


def describe_images(path: Path, data: DataSection) -> ImageDescription:
    """Return what a folder of images holds, from names and some hundred headers; no image is decoded.

    Parameters
    ----------
    path : Path
    data : DataSection
        ``test_path``.

    Raises
    ------
    InputError
        If Pillow is missing, or there is no folder with a folder for each class.
    """
    need_pillow(path)
    findings = Findings()
    layout = find_layout(path, data.test_path, findings)
    files = {folder.name: list_images(folder, findings) for folder in layout.classes}
    tests = {folder.name: list_images(folder, findings) for folder in layout.test_classes}
    every = [file for part in (files, tests) for images in part.values() for file in images]
    places = np.unique(np.linspace(0, len(every) - 1, min(MOST_HEADERS, len(every)), dtype=np.int64))
    memory = DecodeMemory(Budget.of(data))
    found = [header for header in headers([every[place] for place in places], memory) if header is not None]
    return ImageDescription(
        train=layout.train,
        test=layout.test,
        counts={name: len(images) for name, images in files.items()},
        test_counts={name: len(images) for name, images in tests.items()},
        sizes=Counter((height, width) for height, width, _ in found),
        grey=sum(grey for _, _, grey in found),
        looked_at=len(found),
        findings=findings,
    )
