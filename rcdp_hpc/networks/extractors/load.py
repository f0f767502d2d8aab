"""The extractor that a configuration names."""

from __future__ import annotations

from collections.abc import Sequence

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import EXTRACTORS
from rcdp_hpc.networks.extractors.base import Extractor
from rcdp_hpc.networks.extractors.user import UserExtractor
from rcdp_hpc.runtime.user_code import load_choice


def extractor_class(name: str) -> type[Extractor]:
    """Return the class of a value of ``extractor.kind``.

    For a class of the user's own this is the adapter, which imports the class later, because that needs torch.
    """
    extractor: type[Extractor] = load_choice(EXTRACTORS, name) if name in EXTRACTORS else UserExtractor
    return extractor


def extractor_of(config: Config, sample_shape: Sequence[int]) -> Extractor:
    """Return the extractor that ``extractor.kind`` names, for samples of this shape."""
    return extractor_class(config.extractor.kind)(config, sample_shape)
