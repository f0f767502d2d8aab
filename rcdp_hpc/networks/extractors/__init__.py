"""Extractors, which turn samples into what drives the reservoir (table: `rcdp_hpc.config.choices.EXTRACTORS`).

Importing this package does not import torch, because the preparation checks with it whether samples fit.
"""

from rcdp_hpc.networks.extractors.base import CutExtractor, Extractor, MapExtractor
from rcdp_hpc.networks.extractors.load import extractor_class, extractor_of

__all__ = ["CutExtractor", "Extractor", "MapExtractor", "extractor_class", "extractor_of"]
