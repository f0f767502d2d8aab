"""Sentences about the pixels of a folder of images, from facts that are counted while the images are decoded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.data.sources.image_files import shown
from rcdp_hpc.data.sources.image_pixels import BACKGROUND, PixelFacts, PixelRule
from rcdp_hpc.data.sources.image_rows import Decoded
from rcdp_hpc.errors import InputError


def report_pixels(facts: Sequence[PixelFacts], rule: PixelRule, findings: Findings) -> None:
    """Record how pixels were changed.

    Parameters
    ----------
    facts : sequence of PixelFacts
        Facts of all images of the source.
    rule : PixelRule
    findings : Findings

    Raises
    ------
    InputError
        If 16-bit images hold only values of 8 bits, which would become black.
    """
    colour = next(name for name, level in BACKGROUND.items() if level == rule.background)
    height, width = rule.size
    grey = sum(fact.grey for fact in facts)
    counts = {
        f"have transparent pixels, which become {colour} (data.image_background)": sum(f.transparent for f in facts),
        "are turned upright by their EXIF orientation": sum(f.turned for f in facts),
        "have several frames or pages, of which the first is read": sum(f.animated for f in facts),
        f"are smaller than {height} x {width} (data.image_size) and are enlarged": sum(
            fact.size[0] < height or fact.size[1] < width for fact in facts
        ),
    }
    if rule.channels == 1:
        counts["have colour and are turned grey (data.image_channels = 1)"] = len(facts) - grey
    elif grey < len(facts):
        counts["are grey in a set with colour; their three channels are equal"] = grey
    else:
        counts["are grey and get three equal channels; data.image_channels = 1 is smaller"] = grey
    for what, count in counts.items():
        if count:
            findings.assumed.append(f"{count} of {len(facts)} images {what}")
    _report_depth(np.array([fact.deepest for fact in facts if fact.deepest >= 0]), rule, len(facts), findings)


def _report_depth(deepest: NDArray[np.int64], rule: PixelRule, images: int, findings: Findings) -> None:
    if not len(deepest):
        return
    highest = int(deepest.max())
    needed = max(8, highest.bit_length())
    if highest < 256 and rule.bits > 8 and highest > 0:
        raise InputError(
            f"the {len(deepest)} images with 16 bits hold values up to {highest} only, which are 8-bit values: "
            "set data.image_bits = 8."
        )
    findings.assumed.append(
        f"{len(deepest)} of {images} images have 16 bits: grey = value // {2 ** (rule.bits - 8)} "
        f"(data.image_bits = {rule.bits})"
    )
    if len(deepest) < images and rule.bits > needed:
        findings.warnings.append("images with 8 and with 16 bits are mixed; check that their brightness agrees")
    if needed < rule.bits:
        findings.warnings.append(
            f"the images with 16 bits hold values up to {highest} only, so that they are dark: set data.image_bits = "
            f"{needed} to use the whole range"
        )


def report_copies(
    train: Decoded, y: NDArray[np.int64], test: Decoded | None, test_y: NDArray[np.int64] | None, findings: Findings
) -> None:
    """Record images with equal pixels: in training and test, in two classes, or more than once."""
    first: dict[bytes, int] = {}
    copies: list[tuple[Path, Path]] = []
    contradictions: list[tuple[Path, Path]] = []
    for row, digest in enumerate(train.digests):
        other = first.setdefault(digest, row)
        if other != row:
            (copies if y[other] == y[row] else contradictions).append((train.files[row], train.files[other]))
    leaks = []
    if test is not None and test_y is not None:
        leaks = [
            (test.files[row], train.files[first[digest]]) for row, digest in enumerate(test.digests) if digest in first
        ]
    sentences = {
        "images have the same pixels as one of another class": contradictions,
        "test images have the same pixels as a training image, so the test score is too high": leaks,
    }
    if test is None:
        sentences["images are copies of another one of their class, and may be in both training and test"] = copies
    for what, pairs in sentences.items():
        if pairs:
            file, same = pairs[0]
            findings.warnings.append(f"{len(pairs)} {what} (as {shown(file)} and {shown(same)})")
