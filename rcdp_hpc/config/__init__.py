"""Every setting of a run: its key, type, default, bounds and one-line meaning.

A configuration is a TOML file of sections, or the name of a shipped profile, changed by ``--set
section.key=value``. The resolved configuration of a run is in ``RUN/config.toml``.
"""

from __future__ import annotations

from rcdp_hpc.config.apply_defaults import with_kind_defaults, with_settings
from rcdp_hpc.config.augment import AugmentSection
from rcdp_hpc.config.candidates import check_candidates, largest_candidate, searches_sizes, smallest_candidate
from rcdp_hpc.config.compare import CompareSection
from rcdp_hpc.config.data import DataSection
from rcdp_hpc.config.extractor import ExtractorSection
from rcdp_hpc.config.keys import (
    differing_keys,
    flatten,
    known_keys,
    may_change,
    refuse_other_settings,
    settings_that_matter,
    to_tree,
)
from rcdp_hpc.config.kind_defaults import KINDS, DataFacts
from rcdp_hpc.config.load import load_config, parse_config, parse_overrides, profile_names
from rcdp_hpc.config.optimizer import LossSection, OptimizerSection, ScheduleSection
from rcdp_hpc.config.parallel import ParallelSection, PartitionSection
from rcdp_hpc.config.prediction import PredictionSection
from rcdp_hpc.config.pruning import PruningSection
from rcdp_hpc.config.readout import ReadoutSection
from rcdp_hpc.config.reservoir import ReservoirSection
from rcdp_hpc.config.root import NETWORK_SECTIONS, STAGES, TRAINING_SECTIONS, Config
from rcdp_hpc.config.search import DIMENSION_KEYS, RangeSection, SearchSection, SpaceSection
from rcdp_hpc.config.section import Section
from rcdp_hpc.config.toml import commented_toml
from rcdp_hpc.config.training import CheckpointSection, StatesSection, TrainingSection

__all__ = [
    "DIMENSION_KEYS",
    "KINDS",
    "NETWORK_SECTIONS",
    "STAGES",
    "TRAINING_SECTIONS",
    "AugmentSection",
    "CheckpointSection",
    "CompareSection",
    "Config",
    "DataFacts",
    "DataSection",
    "ExtractorSection",
    "LossSection",
    "OptimizerSection",
    "ParallelSection",
    "PartitionSection",
    "PredictionSection",
    "PruningSection",
    "RangeSection",
    "ReadoutSection",
    "ReservoirSection",
    "ScheduleSection",
    "SearchSection",
    "Section",
    "SpaceSection",
    "StatesSection",
    "TrainingSection",
    "check_candidates",
    "commented_toml",
    "differing_keys",
    "flatten",
    "known_keys",
    "largest_candidate",
    "load_config",
    "may_change",
    "parse_config",
    "parse_overrides",
    "profile_names",
    "refuse_other_settings",
    "searches_sizes",
    "settings_that_matter",
    "smallest_candidate",
    "to_tree",
    "with_kind_defaults",
    "with_settings",
]
