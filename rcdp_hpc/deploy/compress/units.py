"""Structured pruning: whole units of a trained network are removed, so that a narrower network remains."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import torch

from rcdp_hpc.config import Config
from rcdp_hpc.deploy.compress.unit_layout import Tensors, Units, units_of
from rcdp_hpc.errors import InputError

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NarrowNetwork:
    """A network with fewer units.

    Attributes
    ----------
    weights : dict of str to torch.Tensor
        Its state.
    changes : dict
        Settings with its widths, by dotted key.
    """

    weights: dict[str, torch.Tensor]
    changes: dict[str, Any]


def without_units(config: Config, weights: Tensors, keep: float) -> NarrowNetwork:
    """Return the network with a share of the units of each layer.

    In each layer, the units with the largest `Units.importance` stay; layers whose width is one setting keep the same
    number. The units that stay compute the same values as before; the sums that read them lack the others.

    Parameters
    ----------
    config : Config
    weights : mapping of str to torch.Tensor
        State of the trained network.
    keep : float
        Share of the units that are left, at least one of each layer.

    Raises
    ------
    InputError
        If no layer of this network has units that can be removed.
    """
    layers = units_of(config, weights)
    if not layers:
        raise InputError(
            f"unit = 'units' with readout.kind = {config.readout.kind!r} and extractor.kind = "
            f"{config.extractor.kind!r}: this network has no units that rcdp knows how to remove; choose 'weights'"
        )
    narrow = dict(weights)
    # Importance is that in the whole network, so that the order of the layers does not matter.
    kept = [kept_units(units, weights, keep) for units in layers]
    for units, numbers in zip(layers, kept, strict=True):
        for part in units.parts():
            narrow[part.name] = part.without(narrow[part.name], numbers, units.width)
        log.info("%s: %d of %d units are left in a layer", units.key, len(numbers), units.width)
    return NarrowNetwork(narrow, _changes(config, layers, kept))


def without_nodes(units: Units, weights: Tensors, keep: float) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Return the nodes of the reservoir that stay, int64, and the network that reads them alone.

    Parameters
    ----------
    units : Units
        The nodes (`nodes_of`).
    weights, keep
        As of `without_units`.
    """
    kept, narrow = kept_units(units, weights, keep), dict(weights)
    for part in units.parts():
        narrow[part.name] = part.without(narrow[part.name], kept, units.width)
    log.info("%d of %d nodes of the reservoir are left", len(kept), units.width)
    return kept, narrow


def kept_units(units: Units, weights: Tensors, keep: float) -> torch.Tensor:
    """Return the numbers of the units that stay, ascending."""
    count = max(1, round(keep * units.width))
    order = torch.argsort(units.importance(weights), descending=True, stable=True)
    return order[:count].sort().values


def _changes(config: Config, layers: list[Units], kept: list[torch.Tensor]) -> dict[str, Any]:
    channels = list(config.extractor.channels)
    changes: dict[str, Any] = {}
    for units, numbers in zip(layers, kept, strict=True):
        section, name, *entry = units.key.split(".")
        if entry:
            channels[int(entry[0])] = len(numbers)
            changes[f"{section}.{name}"] = channels
        else:
            changes[units.key] = len(numbers)
    return changes
