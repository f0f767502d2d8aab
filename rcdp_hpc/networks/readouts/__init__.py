"""Readouts, which give class scores of features: a class for each (table: `rcdp_hpc.config.choices.READOUTS`)."""

from rcdp_hpc.networks.readouts.base import Readout, SequenceReadout
from rcdp_hpc.networks.readouts.load import build_readout, one_member

__all__ = ["Readout", "SequenceReadout", "build_readout", "one_member"]
