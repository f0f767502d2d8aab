"""The solver of deep extreme learning machines (``readout.kind = "elm"``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.reservoir.autoencoder import random_layer, solve_autoencoder
from rcdp_hpc.reservoir.gram import GramSums, reduce_sums
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.reservoir.stream import largest_sum
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agree_on_root, run_on_root
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.solve.elm_rows import (
    LEAST_BOUND,
    band_source,
    bound_of_input,
    bound_of_units,
    each_block,
    largest_feature,
    scale_of,
    watched,
)
from rcdp_hpc.training.solve.layer_file import LayerFile
from rcdp_hpc.training.solve.ridge_fit import RidgeFit, RowSource, class_weights, feature_bound, fit_ridge
from rcdp_hpc.training.solve.solver import Solution, Solver

log = logging.getLogger(__name__)

RandomLayer = tuple[torch.Tensor, torch.Tensor]


class ELMSolver(Solver):
    """A stack of autoencoders, each solved from one pass over the rows, and ridge regression of their result."""

    method = "extreme learning machine"

    def passes(self, config: Config) -> int:
        """Return the passes: for a bound of the features, the standardisation, each layer, and the scores."""
        return config.readout.layers + (2 if feature_bound(config) is not None else 3)

    def solve(
        self,
        config: Config,
        comm: Communicator,
        source: RowSource,
        shape: FeatureShape,
        seed: int,
        *,
        with_validation: bool = True,
        before_block: Callable[[], object] = lambda: None,
        file: LayerFile | None = None,
    ) -> Solution:
        """Solve the readout; parameters, result and errors as `Solver.solve`."""
        network = build_readout(config, shape, source.classes, seed)
        assert isinstance(network, ELMReadout)
        network.requires_grad_(False)
        source = watched(source, before_block)
        bound = largest_feature(comm, source)
        layers = _Layers(config, comm, source, network, seed, bound)
        layers.solve(file)
        return _with_scores(config, comm, source, network, bound, with_validation)


class _Layers:
    """The solution of the standardisation and of all layers; labels count only as row weights."""

    def __init__(
        self, config: Config, comm: Communicator, source: RowSource, network: ELMReadout, seed: int, bound: float
    ) -> None:
        self.config = config
        self.comm = comm
        self.source = source
        self.network = network
        self.seed = seed
        self.bound = bound
        self.weights = class_weights(config, source.class_counts)

    def solve(self, file: LayerFile | None) -> None:
        """Solve the steps that the file does not have: the standardisation is the first, then one for each layer."""
        settings = self.config.readout
        for step in range(self._resumed(file), settings.layers + 1):
            started = time.perf_counter()
            if step == 0:
                self._standardise()
            else:
                self._solve_layer(step - 1)
                log.log(
                    self.source.level,
                    "layer %d of %d solved: %d units, C = %g, %.1f s",
                    *(step, settings.layers, settings.hidden, settings.elm_penalty, time.perf_counter() - started),
                )
            if file is not None:
                agree_on_root(self.comm, partial(file.save, step + 1, self.network.state_dict()))

    def _resumed(self, file: LayerFile | None) -> int:
        """Return the number of steps that the file has, after loading them on all ranks."""
        if file is None:
            return 0
        saved = run_on_root(self.comm, lambda: _arrays(file.load(self.network.state_dict())))
        if saved is None:
            return 0
        solved, state = saved
        self.network.load_state_dict({name: torch.from_numpy(value) for name, value in state.items()})
        log.info("%d of %d layers are solved already", solved - 1, self.config.readout.layers)
        return solved

    def _standardise(self) -> None:
        width, weights, scale = self.source.width, self.weights, scale_of(self.bound)
        largest = self._largest(self.bound * scale)
        sums = agree(self.comm, lambda: GramSums(0, width, "double", largest, joined=False))

        def add(states: torch.Tensor, row_weights: NDArray[np.float64] | None) -> None:
            sums.add(states.new_empty((len(states), 0)), states.double() * scale, row_weights)

        agree(self.comm, lambda: each_block(self.source, weights, add, sums.flush))
        reduce_sums(sums, self.comm)
        total, squares = torch.from_numpy(sums.y / scale), torch.from_numpy(sums.yy / scale**2)
        self.network.standardise(total, squares, sums.count)

    def _solve_layer(self, layer: int) -> None:
        network, bands = self.network, range(self.network.bands)
        random = [self._random_layer(band, layer) for band in bands]
        scales = [scale_of(self._reach(band, layer)) for band in bands]
        sums = agree(self.comm, lambda: [self._sums(band, layer, random[band], scales[band]) for band in bands])

        def add(states: torch.Tensor, row_weights: NDArray[np.float64] | None) -> None:
            network.to(states.device)
            for band, (weights, bias) in enumerate(random):
                x = network.layer_input(states.float(), band, layer)
                hidden = network.activation(torch.addmm(bias.to(x.device), x, weights.to(x.device)))
                sums[band].add(hidden, x * scales[band], row_weights)

        def flush() -> None:
            for one in sums:
                one.flush()

        agree(self.comm, lambda: each_block(self.source, self.weights, add, flush))
        for band, one in enumerate(sums):
            reduce_sums(one, self.comm)
            beta = solve_autoencoder(one, self.config.readout.elm_penalty)
            network.machine(band).layer(layer).weight.copy_(torch.from_numpy(beta / scales[band]))
            if one.yy.any():  # a band may be constant
                self._refuse_vanished(band, layer)

    def _reach(self, band: int, layer: int) -> float | None:
        """Return a bound of the input of a layer; None if there is none."""
        return bound_of_input(self.network, self.config.readout, band, layer, self.bound)

    def _refuse_vanished(self, band: int, layer: int) -> None:
        """Raise a `CandidateError` if the result of a layer is too small for float32."""
        reach, settings = self._reach(band, layer + 1), self.config.readout
        if reach is not None and reach < LEAST_BOUND:
            raise CandidateError(
                f"the values of layer {layer + 1} of the extreme learning machine are below {LEAST_BOUND:g}: set a "
                f"larger readout.elm_penalty than {settings.elm_penalty:g}, or fewer readout.layers than "
                f"{settings.layers}"
            )

    def _random_layer(self, band: int, layer: int) -> RandomLayer:
        """Return A and b of a layer, float32, the same bits on all ranks."""
        inputs, width = self.network.machine(band).layer(layer).in_features, self.config.readout.hidden

        def drawn() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
            # The last digits of a QR decomposition depend on the number of threads.
            with limit_threads(1):
                weights, bias = random_layer(inputs, width, self.seed, (band, layer))
            return weights.astype(np.float32), bias.astype(np.float32)

        weights, bias = run_on_root(self.comm, drawn)
        return torch.from_numpy(weights), torch.from_numpy(bias)

    def _sums(self, band: int, layer: int, random: RandomLayer, scale: float) -> GramSums:
        """Return empty sums of a layer, whose addition is exact if its values have a bound."""
        settings, (weights, bias) = self.config.readout, random
        inputs = self._reach(band, layer)
        hidden = None if inputs is None else bound_of_units(settings, weights.T, inputs, float(bias.abs().max()))
        largest = None if inputs is None or hidden is None else self._largest(max(inputs * scale, hidden))
        return GramSums(weights.shape[1], weights.shape[0], "double", largest, joined=False)

    def _largest(self, bound: float) -> float | None:
        """Return a bound of sums of products of values within a bound, with row weights."""
        largest = largest_sum(bound, self.source.rows)
        return largest if largest is None or self.weights is None else largest * max(1.0, float(self.weights.max()))


def _arrays(saved: tuple[int, Mapping[str, torch.Tensor]] | None) -> tuple[int, dict[str, NDArray[np.float32]]] | None:
    """Return what `LayerFile.load` returns with arrays, which can be broadcast, in place of tensors."""
    return None if saved is None else (saved[0], {name: value.numpy() for name, value in saved[1].items()})


def _with_scores(
    config: Config, comm: Communicator, source: RowSource, network: ELMReadout, bound: float, with_validation: bool
) -> Solution:
    """Solve the scores of each machine and return the complete network. Collective."""
    scaled = [band_source(source, network, config.readout, band, bound) for band in range(network.bands)]
    sources, scales = [rows for rows, _ in scaled], [scale for _, scale in scaled]
    if len(sources) == 1:
        fits = [fit_ridge(config, comm, sources[0], with_validation)]
        accuracy, judged_by = fits[0].accuracy, fits[0].selected_by
        _set_scores(network, fits, scales)
    else:
        # The accuracy is that of all machines together, before they are fitted to the validation rows.
        fits = [fit_ridge(config, comm, one, with_validation=False) for one in sources]
        _set_scores(network, fits, scales)
        accuracy, judged_by = _accuracy(comm, source, network), "validation"
        if with_validation:
            again = [_fitted_again(config, comm, *pair) for pair in zip(sources, fits, strict=True)]
            _set_scores(network, again, scales)
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    penalties = tuple(fit.penalty for fit in fits)
    return Solution(state, network.linear_scores, accuracy, judged_by, fits[0].selected_by, penalties)


def _fitted_again(config: Config, comm: Communicator, source: RowSource, fit: RidgeFit) -> RidgeFit:
    """Return the fit with the same penalty to all rows, including the validation rows. Collective."""
    readout = config.readout.model_copy(update={"ridge_penalties": [fit.penalty]})
    return fit_ridge(config.model_copy(update={"readout": readout}), comm, source)


def _set_scores(network: ELMReadout, fits: list[RidgeFit], scales: list[float]) -> None:
    """Set the weights of the scores to those that were fitted to scaled deep features."""
    for band, (fit, scale) in enumerate(zip(fits, scales, strict=True)):
        scores = network.machine(band).scores
        scores.weight.copy_(torch.from_numpy(scale * fit.readout.weights.T))
        scores.bias.copy_(torch.from_numpy(fit.readout.intercept))


def _accuracy(comm: Communicator, source: RowSource, network: ELMReadout) -> float:
    """Return the accuracy on the validation rows. Collective."""

    def correct() -> int:
        blocks = (block for partition in source.validation() for block in partition)
        return sum(
            int((network.to(states.device).linear_scores(states.float()).argmax(1) == labels.to(states.device)).sum())
            for states, labels in blocks
        )

    return float(comm.allreduce(np.array([float(agree(comm, correct))]))[0]) / source.validation_rows
