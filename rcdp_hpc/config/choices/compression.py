"""What ``rcdp compress`` accepts, readable without torch."""

from __future__ import annotations

# What is removed: single weights, units of layers and channels of convolutions, nodes of the reservoir, features.
UNITS = ("weights", "units", "nodes", "features")
# Bits of a stored weight.
BITS = (32, 8)
