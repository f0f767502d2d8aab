"""Extractors, which turn samples into what drives the reservoir (table: `rcdp_hpc.config.choices.EXTRACTORS`).

The classes in this package need no torch until a source or a network is asked of them: the preparation checks with
them whether the samples fit.
"""

from rcdp_hpc.networks.extractors.base import CutExtractor, Extractor, MapExtractor
from rcdp_hpc.networks.extractors.load import extractor_class, extractor_of

__all__ = ["CutExtractor", "Extractor", "MapExtractor", "extractor_class", "extractor_of"]
