"""Images decoded on all cores: all of them at the start, and those that do not fit in memory again when needed."""

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
# What is kept of an image: its path, its facts, the digest of its pixels, its label.
FILE_BYTES = 1024
SKIPPED = "corrupt images (data.corrupt_images = 'skip')"


class ImageRows:
    """Images that are decoded when they are asked for.

    Parameters
    ----------
    files : sequence of Path
        One for each image.
    rule : PixelRule
        How their pixels are read.
    memory : DecodeMemory
    """

    def __init__(self, files: Sequence[Path], rule: PixelRule, memory: DecodeMemory) -> None:
        self.files = list(files)
        self._rule, self._memory = rule, memory
        self.shape: tuple[int, ...] = (len(self.files), *rule.size, rule.channels)
        self.dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __getitem__(self, rows: Any) -> NDArray[np.uint8]:
        chosen = np.arange(len(self.files))[rows]
        with ThreadPoolExecutor(available_cores()) as pool:
            found = pool.map(lambda row: decode(self.files[row], self._rule, self._memory)[0], chosen.tolist())
            images = np.empty((len(chosen), *self.shape[1:]), np.uint8)
            for place, image in enumerate(found):
                images[place] = image
        return images


@dataclass(frozen=True, eq=False)
class Decoded:
    """Images that were all decoded once.

    Attributes
    ----------
    x : ImageRows or ndarray of uint8, shape (N, height, width, channels)
        The whole images.
    files : list of Path
        Their files.
    whole : ndarray of bool
        Which of the files that were asked for are whole.
    facts : list of PixelFacts
        Of the whole images.
    digests : list of bytes
        Of their pixels: equal for images that look the same to the network.
    """

    x: ImageRows | NDArray[np.uint8]
    files: list[Path]
    whole: NDArray[np.bool_]
    facts: list[PixelFacts]
    digests: list[bytes]


def decode_all(
    files: list[Path], rule: PixelRule, corrupt: str, budget: Budget, findings: Findings, progress: bool
) -> Decoded:
    """Decode every image, to know which are whole and what they are; hold them if they fit.

    Parameters
    ----------
    files : list of Path
    rule : PixelRule
    corrupt : {"fail", "skip"}
        ``data.corrupt_images``.
    budget : Budget
        Half of it may be held.
    findings : Findings
        Gets the images that are skipped.
    progress : bool

    Raises
    ------
    InputError
        If an image is corrupt and not to be skipped, its pixels have no known meaning, or it or what is known of all
        images needs too much memory.
    """
    budget.refuse_rows(files[0].parent if files else "images", len(files), FILE_BYTES)
    shape = (len(files), *rule.size, rule.channels)
    cached = np.empty(shape, np.uint8) if fits(shape, np.dtype(np.uint8), budget.source // 2) else None
    whole = np.ones(len(files), bool)
    facts: list[PixelFacts] = []
    digests: list[bytes] = []
    memory = DecodeMemory(budget)
    # Images of a block wait for one another.
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
    kept = [file for file, fine in zip(files, whole, strict=True) if fine]
    return Decoded(
        ImageRows(kept, rule, memory) if cached is None else cached[: len(kept)], kept, whole, facts, digests
    )


def _skip(problem: InputError, file: Path, corrupt: str, findings: Findings) -> None:
    if isinstance(problem, PixelError):
        raise problem
    if corrupt == "fail":
        raise InputError(f"{problem} Mend or remove it, or set data.corrupt_images = 'skip'.")
    findings.leave_out(SKIPPED, example=shown(file))
