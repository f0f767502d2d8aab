"""``[augment]``: changes of the training images."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from rcdp_hpc.config.section import Section


class AugmentSection(Section):
    """Random changes of the training images for a trained extractor, and shifts for a ridge readout."""

    crop: int = Field(0, ge=0, le=1000, description="largest shift of an image in pixels, in each direction")
    edges: Literal["zero", "reflect"] = Field("zero", description="pixels that fill the edge of a shifted image")
    flip: bool = Field(False, description="mirror half of the images from left to right")
    alternate: bool = Field(
        False, description="with flip: mirror each image in every second epoch instead of at random"
    )
    cutout: int = Field(
        0, ge=0, le=1000, description="side in pixels of a square that is cut out of each image; 0 is none"
    )
    mixup: float = Field(
        0.0, ge=0, le=100, description="mix samples in pairs with weights from Beta(mixup, mixup); 0 is no mixing"
    )
    test_flips: bool = Field(False, description="average predictions over an image and its mirror image")
    test_shift: int = Field(
        0,
        ge=0,
        le=1000,
        description="average predictions over an image and two copies that are shifted by this number of pixels, up "
        "and left, and down and right; 0 is none",
    )

    shifts: int = Field(
        0,
        ge=0,
        le=100,
        description="add copies of each training image, shifted by up to this number of pixels in total: 1 gives 5 "
        "images for each, 2 gives 13 (readout.kind = ridge)",
    )

    @property
    def changes(self) -> bool:
        """Whether training images are changed at random."""
        return bool(self.crop or self.flip or self.cutout)

    @property
    def several_views(self) -> bool:
        """Whether predictions are averaged over several views of an image."""
        return bool(self.test_flips or self.test_shift)
