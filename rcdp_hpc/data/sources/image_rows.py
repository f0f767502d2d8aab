"""Images decoded on all cores: all images once at the start; those beyond the memory budget again when needed."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.budget import Budget
from rcdp_hpc.data.sources.base import BLOCK_BYTES
from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.image_files import shown
from rcdp_hpc.data.sources.image_pixels import DecodeMemory, PixelError, PixelFacts, PixelRule, decode
from rcdp_hpc.data.sources.rows import fits
from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.progress import Progress
from rcdp_hpc.runtime.threads import available_cores

BLOCK_IMAGES = 256
# Bytes held for each image: its path, its facts, the digest of its pixels, its label.
FILE_BYTES = 1024
SKIPPED = "corrupt images (data.corrupt_images = 'skip')"


class ImageRows:
    """Images that are decoded each time they are read.

    Parameters
    ----------
    files : sequence of Path
        The file of each image.
    rule : PixelRule
        Rules for reading pixels.
    memory : DecodeMemory
    """

    def __init__(self, files: Sequence[Path], rule: PixelRule, memory: DecodeMemory) -> None:
        self.files = list(files)
        self._rule = rule
        self._memory = memory
        self.shape: tuple[int, ...] = (len(self.files), *rule.size, rule.channels)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        chosen = np.arange(len(self.files))[rows]
        with ThreadPoolExecutor(available_cores()) as pool:
            decoded = pool.map(lambda row: decode(self.files[row], self._rule, self._memory)[0], chosen.tolist())
            images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
            for place, image in enumerate(decoded):
                images[place] = image
        return images


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images after each was decoded once.

    Attributes
    ----------
    x : ImageRows or ndarray of uint8, shape (N, height, width, channels)
        The images that are not corrupt.
    files : list of Path
        Files of these images.
    whole : ndarray of bool, shape (files,)
        Whether each of the requested files is not corrupt.
    facts : list of PixelFacts
        Facts of these images.
    digests : list of bytes
        Digests of their pixels, equal for equal pixels.
    """

    x: ImageRows | NDArray[np.uint8]
    files: list[Path]
    whole: NDArray[np.bool_]
    facts: list[PixelFacts]
    digests: list[bytes]


def decode_all(
    files: list[Path], rule: PixelRule, corrupt: str, budget: Budget, findings: Findings, progress: bool
) -> Decoded:
    """Decode every image once, to find the corrupt ones and collect facts; hold the images if they fit in memory.

    Parameters
    ----------
    files : list of Path
    rule : PixelRule
    corrupt : {"fail", "skip"}
        ``data.corrupt_images``.
    budget : Budget
        Decoded images may use half of its share for the source.
    findings : Findings
        Receives the images that are skipped.
    progress : bool
        Show progress.

    Raises
    ------
    InputError
        If an image is corrupt and `corrupt` is "fail", the meaning of its pixels is unknown, or the image or the facts
        of all images need too much memory.
    """
    budget.refuse_rows(files[0].parent if files else "images", len(files), FILE_BYTES)
    shape = (len(files), *rule.size, rule.channels)
    cached = np.empty(shape, np.uint8) if fits(shape, np.dtype(np.uint8), budget.source // 2) else None
    whole = np.ones(len(files), bool)
    facts: list[PixelFacts] = []
    digests: list[bytes] = []
    memory = DecodeMemory(budget)
    # Larger blocks keep more cores busy: a block ends with its slowest image.
    size = max(available_cores(), min(BLOCK_IMAGES, BLOCK_BYTES // math.prod(shape[1:])))

    def attempt(file: Path) -> tuple[NDArray[np.uint8], PixelFacts] | InputError:
        try:
            return decode(file, rule, memory)
        except InputError as error:
            return error

    with (
        ThreadPoolExecutor(available_cores()) as pool,
        Progress("images", len(files), "images", enabled=progress) as bar,
    ):
        for start in range(0, len(files), size):
            block = files[start : start + size]
            for place, result in enumerate(pool.map(attempt, block), start):
                if isinstance(result, InputError):
                    _skip(result, files[place], corrupt, findings)
                    whole[place] = False
                    continue
                if cached is not None:
                    cached[len(facts)] = result[0]
                facts.append(result[1])
                digests.append(hashlib.blake2b(result[0].tobytes(), digest_size=16).digest())
            bar.advance(len(block))
    readable = [file for file, is_whole in zip(files, whole, strict=True) if is_whole]
    return Decoded(
        ImageRows(readable, rule, memory) if cached is None else cached[: len(readable)],
        readable,
        whole,
        facts,
        digests,
    )


def _skip(problem: InputError, file: Path, corrupt: str, findings: Findings) -> None:
    if isinstance(problem, PixelError):
        raise problem
    if corrupt == "fail":
        raise InputError(f"{problem} Repair or remove it, or set data.corrupt_images = 'skip'.")
    findings.leave_out(SKIPPED, example=shown(file))
