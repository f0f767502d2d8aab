"""Floating-point operations of one sample: two for each product of a weight and a value, which is added to a sum.

Biases, normalisations, activations and the leak take a few operations for each unit, and are not counted. "Sparse"
operations leave out weights that are zero. With P positions (steps of a sequence, pixels of a map; 1 otherwise):

=======================  ============================================================================================
part                     operations
=======================  ============================================================================================
linear layer             ``2 P n_out n_in``
convolution              ``2 P n_out n_in k`` with P output positions and k values of a kernel (n_in of its group)
LSTM, GRU                ``2 P g h (n_in + h)`` per layer, with g = 4 or 3 gates and h units
transformer layer        ``2 P (4 d^2 + 2 d h) + 4 P^2 d``: Q, K, V, their output, the ReLU layer; then Q K' and A V
reservoir                ``2 P N (N + n_in)`` for each scan, direction and layer; sparse: ``2 P`` for each connection
diagonal reservoir       ``2 P`` for each entry of its three matrices that is not zero, dense and sparse
components, projection   ``2 P n_out n_in`` (``extractor.kind = "pca"``, ``"random_projection"``)
dictionary               ``2 P K p`` with K atoms of p values, twice that with ``mirror``
random kernels           ``P (252 c + 8 n_in)`` for each dilation, with c channels of a kernel; P for each feature
wavelet packets          ``2 n F`` per level for n values and filters of F taps
=======================  ============================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from torch import Tensor, nn

from rcdp_hpc.networks.dictionary import PatchDictionary
from rcdp_hpc.networks.input_maps import LinearMap, RandomProjection
from rcdp_hpc.networks.kernel_outputs import KERNELS, LENGTH
from rcdp_hpc.networks.kernels import RandomKernels
from rcdp_hpc.networks.shapes import dictionary_map
from rcdp_hpc.networks.wavelet_packets import WaveletPackets
from rcdp_hpc.networks.whitening import PatchWhitening
from rcdp_hpc.reservoir.gradient import DifferentiableReservoir
from rcdp_hpc.reservoir.states import Reservoir

# Operations of a kernel with weights 2 and -1 for each value: two additions and a difference.
KERNEL_OPERATIONS = 3


@dataclass
class Flops:
    """Operations of one sample.

    Attributes
    ----------
    dense, sparse : int
        With and without the products of weights that are zero.
    uncounted : list of str
        Types of the layers with weights that have no formula, such as a user's own. Their operations are missing.
    """

    dense: int = 0
    sparse: int = 0
    uncounted: list[str] = field(default_factory=list)

    def add(self, positions: int, *weights: Tensor) -> None:
        """Add the operations of weights that are used at each of these positions."""
        for weight in weights:
            self.dense += 2 * positions * weight.numel()
            self.sparse += 2 * positions * int(weight.count_nonzero())

    def add_both(self, operations: int) -> None:
        """Add operations without weights, or with weights none of which can be zero."""
        self.dense += operations
        self.sparse += operations


Rule = Callable[[Flops, Any, tuple[Any, ...], Any], None]


def _linear(flops: Flops, layer: nn.Linear, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    flops.add(output.numel() // layer.out_features, layer.weight)


def _convolution(flops: Flops, layer: nn.Conv1d | nn.Conv2d, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    flops.add(output.numel() // layer.out_channels, layer.weight)


def _whitening(flops: Flops, layer: PatchWhitening, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    flops.add(output.numel() // len(layer.kernels), layer.kernels)


def _recurrent(flops: Flops, layers: nn.RNNBase, inputs: tuple[Tensor, ...], output: Any) -> None:
    steps = output[0].numel() // output[0].shape[-1]
    flops.add(steps, *(value for name, value in layers.named_parameters() if name.startswith("weight_")))


def _transformer(flops: Flops, layer: nn.TransformerEncoderLayer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    steps, width = output.shape[-2:]
    attention = layer.self_attn
    weights = (attention.in_proj_weight, attention.out_proj.weight, layer.linear1.weight, layer.linear2.weight)
    flops.add(steps, *weights)
    flops.add_both(4 * steps * steps * width)


def _dictionary(flops: Flops, dictionary: PatchDictionary, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    positions = math.prod(dictionary_map(dictionary.settings, dictionary.sample_shape))
    flops.add(positions * (2 if dictionary.settings.mirror else 1), dictionary.filters)


def _linear_map(flops: Flops, linear: LinearMap | RandomProjection, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    flops.add(output.numel() // len(linear.matrix), linear.matrix)


def _kernels(flops: Flops, kernels: RandomKernels, inputs: tuple[Any, ...], output: Any) -> None:
    steps, channels = inputs[0].shape[1:]
    start = 0
    for number, count in enumerate(kernels.bias_counts):
        for rows in kernels.groups(kernels.dilations[start : start + count].tolist()):
            subsets = kernels.subsets(number, rows[0])
            read = 1.0 if subsets is None else sum(map(len, subsets)) / len(subsets)
            sums = KERNEL_OPERATIONS * len(KERNELS) * read + (LENGTH - 1) * channels
            flops.add_both(round(steps * (sums + len(rows) * len(KERNELS))))
        start += count


def _packets(flops: Flops, packets: WaveletPackets, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    flops.add_both(2 * packets.levels * output.numel() * len(packets.low))


def _differentiable(flops: Flops, module: DifferentiableReservoir, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    add_reservoir(flops, module.reservoir, inputs[0].shape[1])


def add_reservoir(flops: Flops, reservoir: Reservoir, steps: int) -> None:
    """Add the operations of a reservoir that is driven by a sequence of this number of steps."""
    for layers in reservoir.matrices:
        for matrices in layers:
            times = 2 * steps * reservoir.directions
            stored = int(matrices.recurrent.count_nonzero()) + int(np.count_nonzero(matrices.input))
            if matrices.mixing is None:
                flops.sparse += times * stored
                flops.dense += times * reservoir.nodes * (reservoir.nodes + matrices.input.shape[1])
            else:
                flops.add_both(times * (stored + matrices.mixing.size))


RULES: dict[type[nn.Module], Rule] = {
    nn.Linear: _linear,
    nn.Conv1d: _convolution,
    nn.Conv2d: _convolution,
    nn.RNNBase: _recurrent,
    nn.TransformerEncoderLayer: _transformer,
    PatchWhitening: _whitening,
    LinearMap: _linear_map,
    RandomProjection: _linear_map,
    PatchDictionary: _dictionary,
    RandomKernels: _kernels,
    WaveletPackets: _packets,
    DifferentiableReservoir: _differentiable,
}  # type: ignore[dict-item]  # each rule takes its own type of module


@contextmanager
def counted(*modules: nn.Module) -> Iterator[Flops]:
    """Count the operations of all calls of modules and their layers within a block, for a batch of one sample."""
    flops = Flops()
    with ExitStack() as stack:
        for module in modules:
            _watch(module, flops, stack)
        yield flops


def _watch(module: nn.Module, flops: Flops, stack: ExitStack) -> None:
    """Count the calls of a module that has a rule; otherwise those of its layers."""
    rule = next((rule for kind, rule in RULES.items() if isinstance(module, kind)), None)
    if rule is not None:
        hook = module.register_forward_hook(lambda layer, inputs, output: rule(flops, layer, inputs, output))
        stack.callback(hook.remove)
        return
    # Vectors are biases and normalisations.
    own = [value for name, value in module.state_dict().items() if "." not in name and value.is_floating_point()]
    if any(value.ndim > 1 for value in own):
        name = type(module).__name__
        if name not in flops.uncounted:
            flops.uncounted.append(name)
    for child in module.children():
        _watch(child, flops, stack)
