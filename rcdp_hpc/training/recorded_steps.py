"""Steps of a training from recordings: whether they can be recorded, and what takes them."""

from __future__ import annotations

import logging
from functools import partial

import torch
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.networks.norm import SyncBatchNorm
from rcdp_hpc.parallel.base import Strategy
from rcdp_hpc.runtime.code_consent import code_named_by
from rcdp_hpc.training.graph import CudaGraphs, GraphRunner, Recorder
from rcdp_hpc.training.step import Stepper

log = logging.getLogger(__name__)


def wants_recordings(config: Config, device: torch.device, network: nn.Module, parallel: Strategy) -> bool:
    """Return whether steps are recorded, if nothing in them makes the host wait; the log says why not.

    Gradients of such steps are summed after the backward pass only.

    Parameters
    ----------
    config : Config
    device : torch.device
        Device of the training.
    network : nn.Module
    parallel : Strategy
    """
    if device.type != "cuda" or config.training.graph == "off":
        return False
    obstacle = obstacle_of(config, network, parallel)
    if obstacle:
        _report_not_recorded(obstacle)
    return not obstacle


def obstacle_of(config: Config, network: nn.Module, parallel: Strategy) -> str:
    """Return what of a network or its ranks cannot be recorded; empty if all can."""
    sections = ("readout", "loss", "optimizer", *(("extractor", "reservoir") if config.extractor.trained else ()))
    own = [key for key in code_named_by(config) if key.partition(".")[0] in sections]
    if own and config.training.graph == "auto":
        return f"{own[0]} is a class of the user's own, whose Python code a recording would not run ('on' records it)"
    has_statistics = any(isinstance(module, SyncBatchNorm) for module in network.modules())
    if has_statistics and parallel.sums_batches:
        return "batch statistics are sums over all ranks (parallel.batch_statistics = 'all')"
    return ""


def record_steps(config: Config, stepper: Stepper, recorder: Recorder | None = None) -> None:
    """Let a stepper take its steps from recordings, unless it has to wait for each; the log says so.

    Parameters
    ----------
    config : Config
    stepper : Stepper
        Its device is a GPU, unless there is a recorder for another one.
    recorder : Recorder, optional
        Default: CUDA graphs.
    """
    if stepper.needs_host:
        _report_not_recorded(stepper.needs_host)
        return
    pieces = ", in two pieces around the sum of the gradients" if stepper.parallel.sums_over_ranks else ""
    log.info("steps are repeated from recordings (training.graph = %r)%s", config.training.graph, pieces)
    stepper.rate_on_device = True
    stepper.casts_together = True
    stepper.run = RecordedSteps(stepper, recorder or CudaGraphs(stepper.train.device)).take


def _report_not_recorded(reason: str) -> None:
    log.info("steps are not recorded (training.graph): %s", reason)


class RecordedSteps:
    """Takes the steps of a stepper, the first ones as they are, then from recordings.

    A step is one recording. If ranks sum their gradients, it is two, and the sum is between them.

    Parameters
    ----------
    stepper : Stepper
    recorder : Recorder
    """

    def __init__(self, stepper: Stepper, recorder: Recorder) -> None:
        self.runner = GraphRunner(recorder, stepper.trained)
        self.place: tuple[int, ...] = ()
        self.norms = [module for module in stepper.network.modules() if isinstance(module, SyncBatchNorm)]
        self.largest: list[float] = []

    def take(self, stepper: Stepper) -> None:
        """Take the step of the stepper, whose inputs are filled."""
        if stepper.gradient_norms and stepper.gradient_norms.awaited:
            # Only the first step of an epoch records the gradient of the sequence.
            stepper.run_eagerly()
            return
        place = _place(stepper)
        if place != self.place:
            self.runner.forget()
            self.place = place
        largest = [norm.largest for norm in self.norms]
        if largest != self.largest:
            self.runner.record_again()
            self.largest = largest
        inputs = stepper.inputs

        def step() -> None:
            stepper.compute(inputs)
            stepper.apply(inputs)

        if not stepper.parallel.sums_over_ranks:
            self.runner.run("step", step, inputs.counts)
            return
        self.runner.run("gradient of a step", partial(stepper.compute, inputs), inputs.counts)
        stepper.parallel.sum_gradients(stepper.optimizer)
        self.runner.run("update of a step", partial(stepper.apply, inputs), inputs.counts)


def _place(stepper: Stepper) -> tuple[int, ...]:
    """Return the addresses of what a step reads, which change with exchanged rows and removed weights."""
    train, pruner = stepper.train, stepper.pruner
    read = [stepper.inputs.packed, train.states, train.labels, train.numbers]
    masks = pruner.masks.values() if pruner else ()
    return tuple(value.data_ptr() for value in (*read, *masks) if isinstance(value, torch.Tensor))
