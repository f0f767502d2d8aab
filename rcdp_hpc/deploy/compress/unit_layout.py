"""Where the units of a trained network are in its weights: hidden units, components of o, channels of convolutions.

Removing a unit removes a row or a column from every tensor that belongs to it, so that a narrower network of the same
kind remains. Each kind of readout and extractor has a function here that lists its units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import torch

from rcdp_hpc.config import Config

Tensors = Mapping[str, torch.Tensor]
NORM = ("weight", "bias", "running_mean", "running_var")


@dataclass(frozen=True)
class Part:
    """The entries of one axis of a tensor that belong to the units of a group.

    Attributes
    ----------
    name : str
        Name of the tensor.
    axis : int
    blocks : int
        The axis is this number of blocks, each with one entry for each unit: the gates of an LSTM, or positions of a
        map whose channels are next to one another.
    """

    name: str
    axis: int
    blocks: int = 1

    def squares(self, tensors: Tensors, width: int) -> torch.Tensor:
        """Return the sum of the squares of each unit's entries, float64, shape (width,)."""
        moved = tensors[self.name].double().movedim(self.axis, 0)
        return moved.reshape(self.blocks, width, -1).square().sum((0, 2))

    def without(self, tensor: torch.Tensor, kept: torch.Tensor, width: int) -> torch.Tensor:
        """Return the tensor with the entries of these units alone."""
        numbers = torch.arange(self.blocks)[:, None] * width + kept
        return tensor.index_select(self.axis, numbers.flatten())


@dataclass(frozen=True)
class Units:
    """Units of one layer.

    Attributes
    ----------
    key : str
        The setting with their number; ``extractor.channels.2`` is the third entry of a list.
    width : int
        Their number.
    incoming, outgoing : tuple of Part
        Weights that compute a unit, and that read it.
    norms : tuple of str
        Batch normalisations of the units, by the prefix of their tensors.
    others : tuple of Part
        Further values of a unit: biases, and the standardisation of what the readout reads.
    """

    key: str
    width: int
    incoming: tuple[Part, ...]
    outgoing: tuple[Part, ...]
    norms: tuple[str, ...] = ()
    others: tuple[Part, ...] = ()

    def importance(self, tensors: Tensors) -> torch.Tensor:
        """Return ``g ||w_out||`` of each unit, float64, shape (width,).

        w_out are the weights that read it. g is the scale of its values: the sum of the absolute factors of its batch
        normalisations; without one, the norm of the weights that compute it; 1 if no weights do.
        """
        out = torch.stack([part.squares(tensors, self.width) for part in self.outgoing]).sum(0).sqrt()
        if self.norms:
            scales = [tensors[f"{norm}.weight"].double().abs() for norm in self.norms]
            return out * torch.stack(scales).sum(0)
        if not self.incoming:
            return out
        return out * torch.stack([part.squares(tensors, self.width) for part in self.incoming]).sum(0).sqrt()

    def parts(self) -> Iterator[Part]:
        """Yield the parts of all tensors that have entries for the units."""
        yield from (*self.incoming, *self.outgoing, *self.others)
        for norm in self.norms:
            yield from (Part(f"{norm}.{name}", 0) for name in NORM)


def units_of(config: Config, tensors: Tensors) -> list[Units]:
    """Return the units of a trained network, in order; empty if its kind has none that can be removed.

    Parameters
    ----------
    config : Config
    tensors : mapping of str to torch.Tensor
        State of the network.
    """
    prefix = "readout." if config.extractor.trained else ""
    describe = _READOUTS.get(config.readout.kind)
    readout = list(describe(config, prefix)) if describe else []
    return [*_channels(config, tensors), *readout]


def nodes_of(width: int, tensors: Tensors) -> Units:
    """Return the nodes of a reservoir whose states the readout reads, standardised by node.

    Parameters
    ----------
    width : int
        Number of nodes.
    tensors : mapping of str to torch.Tensor
        State of the readout.
    """
    columns = tensors["output_map.weight"].shape[1] // width
    features = len(tensors["state_mean"]) // width
    standard = tuple(Part(name, 0, features) for name in ("state_mean", "state_scale"))
    return Units("reservoir.nodes", width, (), (Part("output_map.weight", 1, columns),), others=standard)


def _mlp(config: Config, p: str) -> Iterator[Units]:
    settings = config.readout
    further = range(settings.layers - 1)
    layers = [f"{p}inner", *(f"{p}further.{layer}" for layer in further), f"{p}outer"]
    norms = [f"{p}inner_norm", *(f"{p}further_norms.{layer}" for layer in further), f"{p}outer_norm"]
    after = [*layers[1:], f"{p}scores"]
    yield _components(config, p, Part(f"{layers[0]}.weight", 1))
    for layer, norm, following in zip(layers, norms, after, strict=True):
        reads = Part(f"{following}.weight", 1)
        yield Units("readout.hidden", settings.hidden, (Part(f"{layer}.weight", 0),), (reads,), (norm,))


def _components(config: Config, p: str, reads: Part) -> Units:
    """Return the components of o (eq. 10)."""
    return Units("readout.outputs", config.readout.outputs, (Part(f"{p}output_map.weight", 0),), (reads,))


def _recurrent(config: Config, p: str, gates: int) -> Iterator[Units]:
    settings = config.readout
    yield _components(config, p, Part(f"{p}recurrent.weight_ih_l0", 1))
    for layer in range(settings.layers):
        name = f"{p}recurrent.{{}}_l{layer}"
        last = layer + 1 == settings.layers
        following = f"{p}scores.weight" if last else f"{p}recurrent.weight_ih_l{layer + 1}"
        yield Units(
            "readout.hidden",
            settings.hidden,
            (Part(name.format("weight_ih"), 0, gates), Part(name.format("weight_hh"), 0, gates)),
            (Part(name.format("weight_hh"), 1), Part(following, 1)),
            others=(Part(name.format("bias_ih"), 0, gates), Part(name.format("bias_hh"), 0, gates)),
        )


def _lstm(config: Config, p: str) -> Iterator[Units]:
    return _recurrent(config, p, 4)


def _gru(config: Config, p: str) -> Iterator[Units]:
    return _recurrent(config, p, 3)


def _step_convolution(config: Config, p: str) -> Iterator[Units]:
    settings = config.readout
    yield _components(config, p, Part(f"{p}kernels.0.weight", 1))
    for layer in range(settings.layers):
        last = layer + 1 == settings.layers
        # The scores read the mean and the maximum over the steps.
        reads = Part(f"{p}scores.weight", 1, 2) if last else Part(f"{p}kernels.{layer + 1}.weight", 1)
        kernel = Part(f"{p}kernels.{layer}.weight", 0)
        yield Units("readout.hidden", settings.hidden, (kernel,), (reads,), (f"{p}norms.{layer}",))


def _transformer(config: Config, p: str) -> Iterator[Units]:
    """Yield the units of the ReLU layers. The width of x stays: attention heads and layer norms share it."""
    for layer in range(config.readout.layers):
        name = f"{p}encoder.{layer}"
        yield Units(
            "readout.hidden", config.readout.hidden, (Part(f"{name}.linear1.weight", 0),),
            (Part(f"{name}.linear2.weight", 1),), others=(Part(f"{name}.linear1.bias", 0),),
        )  # fmt: skip


_READOUTS: Mapping[str, Callable[[Config, str], Iterator[Units]]] = {
    "network": _mlp,
    "lstm": _lstm,
    "gru": _gru,
    "convolution": _step_convolution,
    "transformer": _transformer,
}


def _channels(config: Config, tensors: Tensors) -> Iterator[Units]:
    """Yield the channels of trained convolutions; those of the last stage only if no reservoir reads them."""
    if config.extractor.kind != "convolution":
        return
    channels = config.extractor.channels
    for stage, width in enumerate(channels):
        name = f"extractor.stages.{stage}"
        residual = f"{name}.residual_kernel.weight"
        own = (Part(residual, 0), Part(residual, 1)) if config.extractor.residual else ()
        norms = (f"{name}.norm", *((f"{name}.residual_norm",) if config.extractor.residual else ()))
        kernel = (Part(f"{name}.kernel.weight", 0), *own[:1])
        if stage + 1 < len(channels):
            reads = (*own[1:], Part(f"extractor.stages.{stage + 1}.kernel.weight", 1))
            yield Units(f"extractor.channels.{stage}", width, kernel, reads, norms)
        elif config.reservoir.kind == "none" and config.readout.kind in _READOUTS:
            yield _last_channels(stage, width, kernel, own[1:], norms, tensors)


def _last_channels(
    stage: int, width: int, kernel: tuple[Part, ...], own: tuple[Part, ...], norms: tuple[str, ...], tensors: Tensors
) -> Units:
    """Return the channels of the map that the readout reads, whose values of one position are next to one another."""
    positions = len(tensors["readout.state_mean"]) // width
    columns = tensors["readout.output_map.weight"].shape[1] // width
    standard = tuple(Part(f"readout.{name}", 0, positions) for name in ("state_mean", "state_scale"))
    last = tuple(Part(f"extractor.norm.{name}", 0) for name in NORM)
    reads = (*own, Part("readout.output_map.weight", 1, columns))
    return Units(f"extractor.channels.{stage}", width, kernel, reads, norms, (*standard, *last))
