"""What is computed from samples and kept for the training: extractors that are fixed, and reservoirs."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.deploy.export.lowering.builder import Builder, Weights
from rcdp_hpc.deploy.export.lowering.convolutions import lower_convolutions, lower_normalised
from rcdp_hpc.deploy.export.lowering.fixed_extractors import lower_dictionary, lower_kernels, lower_wavelet_packets
from rcdp_hpc.deploy.export.lowering.input_maps import lower_input_map
from rcdp_hpc.deploy.export.lowering.reservoirs import lower_reservoir
from rcdp_hpc.deploy.export.lowering.sequences import Sequences, lower_sequences
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.trained_model import TrainedModel
from rcdp_hpc.networks.convolutions import Convolutions
from rcdp_hpc.networks.dictionary import PatchDictionary
from rcdp_hpc.networks.frozen import FrozenExtractor
from rcdp_hpc.networks.input_maps import InputMap
from rcdp_hpc.networks.kernel_source import KernelSource
from rcdp_hpc.networks.map_source import MapSource
from rcdp_hpc.networks.wavelet_packets import WaveletPackets
from rcdp_hpc.reservoir.identity_source import IdentitySource
from rcdp_hpc.reservoir.states import Reservoir


def lower_source(builder: Builder, model: TrainedModel, x: str) -> str:
    """Append what the source of a model's rows does to samples; return the name of the features (rows, width).

    Raises
    ------
    InputError
        If the extractor has no operations.
    """
    source: Any = model.reservoir
    if isinstance(source, MapSource):
        return lower_reservoir(builder, source.inner, _mapped(builder, model, source.extractor, x))
    u = lower_sequences(builder, x, source.sequencer, model.sample_shape)
    if isinstance(source, Reservoir | IdentitySource):
        return lower_reservoir(builder, source, u)
    if isinstance(source, KernelSource):
        features = lower_kernels(builder, source.learned, u)
        if source.reservoir is None:
            return features
        return builder.op("concat", lower_reservoir(builder, source.reservoir, u), features, axis=1)
    raise _without_operations(model)


def _mapped(builder: Builder, model: TrainedModel, extractor: Any, x: str) -> Sequences:
    """Return the sequences of a fixed extractor."""
    if isinstance(extractor, PatchDictionary):
        return lower_dictionary(builder, extractor, x)
    if isinstance(extractor, WaveletPackets):
        return lower_wavelet_packets(builder, extractor, x)
    if isinstance(extractor, InputMap):
        return lower_input_map(builder, extractor, x)
    if isinstance(extractor, FrozenExtractor) and isinstance(extractor.extractor, Convolutions):
        weights, shape = Weights(model.file.learned), extractor.sample_shape
        x = lower_normalised(builder, weights, x, shape)
        activation = model.file.config.extractor.activation
        return lower_convolutions(builder, extractor.extractor, weights.part("extractor"), activation, x, shape)
    raise _without_operations(model)


def _without_operations(model: TrainedModel) -> InputError:
    kind = model.file.config.extractor.kind
    return InputError(f"extractor.kind = {kind!r} has no operations and cannot be exported: predict with rcdp")
