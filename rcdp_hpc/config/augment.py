"""``[augment]``: random changes of the training images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rcdp_hpc.config.section import Section


class AugmentSection(Section):
    """Random changes of the training images, for a trained extractor."""

    crop: int = Field(0, ge=0, le=1000, description="images are shifted by up to this many pixels in each direction")
    edges: Literal["zero", "reflect"] = Field("zero", description="what fills the edge of a shifted image")
    flip: bool = Field(False, description="half of the images are mirrored from left to right")
    alternate: bool = Field(
        False, description="each image is mirrored in every second epoch, not by chance in half of them (flip = true)"
    )
    cutout: int = Field(0, ge=0, le=1000, description="side in pixels of a square that is cut out of each image")
    mixup: float = Field(
        0.0, ge=0, le=100, description="samples are mixed in pairs, by shares of Beta(a, a) with this a; 0 mixes none"
    )
    test_flips: bool = Field(False, description="predictions are averaged over an image and its mirror image")
    test_shift: int = Field(
        0,
        ge=0,
        le=1000,
        description="predictions are averaged over the image and copies shifted by this many pixels, up and left and "
        "down and right; 0 is none",
    )

    shifts: int = Field(
        0,
        ge=0,
        le=100,
        description="adds copies of each training image, shifted by up to this many pixels in total: 1 makes 5 of "
        "each, 2 makes 13 (readout.kind = ridge)",
    )

    @property
    def changes(self) -> bool:
        """Whether training images are changed, each by itself."""
        return bool(self.crop or self.flip or self.cutout)

    @property
    def several_views(self) -> bool:
        """Whether predictions are averaged over several views of an image."""
        return bool(self.test_flips or self.test_shift)
