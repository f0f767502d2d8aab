"""The solver of deep extreme learning machines (``readout.kind = "elm"``)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.errors import CandidateError
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.networks.readouts import build_readout
from rcdp_hpc.networks.readouts.elm import ELMReadout
from rcdp_hpc.reservoir.autoencoder import random_layer, solve_autoencoder
from rcdp_hpc.reservoir.reductions import FeatureShape
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, agreed, run_on_root
from rcdp_hpc.runtime.threads import limit_threads
from rcdp_hpc.training.held_out_scores import solved_scores
from rcdp_hpc.training.solve.elm_rows import (
    LEAST_VALUE,
    Terms,
    band_source,
    exact_sums,
    largest_of_first,
    scale_of,
    watched,
)
from rcdp_hpc.training.solve.layer_file import LayerFile
from rcdp_hpc.training.solve.ridge_fit import RidgeFit, RowSource, fit_ridge, row_class_weights
from rcdp_hpc.training.solve.solver import Solution, Solver

log = logging.getLogger(__name__)

RandomLayer = tuple[torch.Tensor, torch.Tensor]


class ELMSolver(Solver):
    """A stack of autoencoders, each solved from one pass over the rows, and ridge regression of their result."""

    method = "extreme learning machine"

    def passes(self, config: Config) -> int:
        """Return the passes: for the standardisation, for each layer, and for the scores."""
        return config.readout.layers + 2

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
        layers = _Layers(config, comm, source, network, seed)
        layers.solve(file)
        return _with_scores(config, comm, source, network, layers.scales(config.readout.layers), with_validation)


class _Layers:
    """The solution of the standardisation and of all layers; labels count only as row weights."""

    def __init__(self, config: Config, comm: Communicator, source: RowSource, network: ELMReadout, seed: int) -> None:
        self.config = config
        self.comm = comm
        self.source = source
        self.network = network
        self.seed = seed
        self.weights = row_class_weights(config, source.class_counts)

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
                run_on_root(self.comm, partial(file.save, step + 1, self.network.state_dict()))

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
        width = self.source.width
        scale = scale_of(max(largest_of_first(self.comm, self.source, lambda states: [states]), default=0.0))

        def terms(states: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
            return [(states.new_empty((len(states), 0)), states.double() * scale)]

        (sums,) = exact_sums(self.comm, self.source, Terms([(0, width)], terms, 1.0), self.weights)
        total, squares = torch.from_numpy(sums.y / scale), torch.from_numpy(sums.yy / scale**2)
        self.network.standardise(total, squares, sums.count)

    def _solve_layer(self, layer: int) -> None:
        bands, penalty = range(self.network.bands), self.config.readout.elm_penalty
        random = [self._random_layer(band, layer) for band in bands]
        scales = self.scales(layer)

        def terms(states: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
            inputs = [self._input(states, band, layer) for band in bands]
            return [(self._hidden(x, random[band]), scales[band] * x) for band, x in enumerate(inputs)]

        def hidden(states: torch.Tensor) -> list[torch.Tensor]:
            return [values for values, _ in terms(states)]

        largest = max(largest_of_first(self.comm, self.source, hidden), default=1.0)
        sizes = [(self.config.readout.hidden, len(weights)) for weights, _ in random]
        for band, sums in enumerate(exact_sums(self.comm, self.source, Terms(sizes, terms, largest), self.weights)):
            beta = agree(self.comm, partial(solve_autoencoder, sums, penalty))
            self.network.machine(band).layer(layer).weight.copy_(torch.from_numpy(beta / scales[band]))

    def scales(self, layer: int) -> list[float]:
        """Return the factor of each machine that brings the input of a layer near to 1. Collective.

        Raises
        ------
        CandidateError
            If the values of the layer before are too small for float32.
        """
        bands, settings = range(self.network.bands), self.config.readout

        def inputs(states: torch.Tensor) -> list[torch.Tensor]:
            return [self._input(states, band, number) for band in bands for number in (0, layer)]

        largest = largest_of_first(self.comm, self.source, inputs) or [0.0, 0.0] * len(bands)
        for first, value in zip(largest[::2], largest[1::2], strict=True):
            if value < LEAST_VALUE <= first:  # a band may be constant
                raise agreed(
                    CandidateError(
                        f"the values of layer {layer} of the extreme learning machine are below {LEAST_VALUE:g}: set a "
                        f"larger readout.elm_penalty than {settings.elm_penalty:g}, or fewer readout.layers than "
                        f"{settings.layers}"
                    )
                )
        return [scale_of(value) for value in largest[1::2]]

    def _input(self, states: torch.Tensor, band: int, layer: int) -> torch.Tensor:
        self.network.to(states.device)
        return self.network.layer_input(states.float(), band, layer)

    def _hidden(self, x: torch.Tensor, random: RandomLayer) -> torch.Tensor:
        """Return H = g(X A + b)."""
        weights, bias = (value.to(x.device) for value in random)
        return self.network.activation(torch.addmm(bias, x, weights))

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


def _arrays(saved: tuple[int, Mapping[str, torch.Tensor]] | None) -> tuple[int, dict[str, NDArray[np.float32]]] | None:
    """Return what `LayerFile.load` returns with arrays, which can be broadcast, in place of tensors."""
    return None if saved is None else (saved[0], {name: value.numpy() for name, value in saved[1].items()})


def _with_scores(
    config: Config,
    comm: Communicator,
    source: RowSource,
    network: ELMReadout,
    scales: list[float],
    with_validation: bool,
) -> Solution:
    """Solve the scores of each machine and return the complete network. Collective."""
    sources = [band_source(source, network, config.readout, band, scale) for band, scale in enumerate(scales)]
    if len(sources) == 1:
        fits = [fit_ridge(config, comm, sources[0], with_validation)]
        accuracy, judged_by, held_out = fits[0].accuracy, fits[0].selected_by, fits[0].held_out
        _set_scores(network, fits, scales)
    else:
        # The accuracy is that of all machines together, before they are fitted to the validation rows.
        fits = [fit_ridge(config, comm, replace(one, natural=None), with_validation=False) for one in sources]
        _set_scores(network, fits, scales)
        accuracy, judged_by = _accuracy(comm, source, network), "validation"
        held_out = _held_out(comm, source, network)
        if with_validation:
            again = [_fitted_again(config, comm, replace(one, natural=None), fit)
                     for one, fit in zip(sources, fits, strict=True)]  # fmt: skip
            _set_scores(network, again, scales)
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    penalties = tuple(fit.penalty for fit in fits)
    return Solution(state, network.linear_scores, accuracy, judged_by, fits[0].selected_by, penalties, held_out)


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


def _held_out(comm: Communicator, source: RowSource, network: ELMReadout) -> HeldOutScores | None:
    """Return the scores of the validation rows on rank 0, if the source asks for them. Collective."""
    if source.natural is None:
        return None

    def scores(states: torch.Tensor) -> torch.Tensor:
        return network.to(states.device).linear_scores(states.float())

    return solved_scores(comm, source.validation(), scores, source.classes)


def _accuracy(comm: Communicator, source: RowSource, network: ELMReadout) -> float:
    """Return the accuracy on the validation rows. Collective."""

    def correct() -> int:
        blocks = (block for partition in source.validation() for block in partition)
        return sum(
            int((network.to(states.device).linear_scores(states.float()).argmax(1) == labels.to(states.device)).sum())
            for states, labels in blocks
        )

    return float(comm.allreduce(np.array([float(agree(comm, correct))]))[0]) / source.validation_rows
