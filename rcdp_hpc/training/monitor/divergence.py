"""The first layer with a value that is not finite, over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rcdp_hpc.errors import StageFailedError

# Position of findings of the backward pass: after all findings of the forward pass.
BACKWARD = 1_000_000

# Position on the way through the network, and name of the place.
Finding = tuple[int, str]


class DivergedError(StageFailedError):
    """The gradient of a step, or the loss of an epoch, is not finite.

    Attributes
    ----------
    resumable : bool
        Whether the weights are finite and equal on all ranks, so that a checkpoint can be written.
    """

    def __init__(self, message: str, resumable: bool = True) -> None:
        super().__init__(message)
        self.resumable = resumable


def describe(epoch: int, step: int, loss: float, rate: float, fault: Finding) -> str:
    """Return the description of a step without a finite gradient; `epoch` and `step` count from 0."""
    return (
        f"epoch {epoch + 1}, step {step + 1}: the loss is {loss:g} and its gradient is not finite, at a learning rate "
        f"of {rate:g}; first in {fault[1]}."
    )


def describe_epoch(epoch: int, steps: int, losses: tuple[float, float], rate: float, fault: Finding | None) -> str:
    """Return the description of an epoch without a finite training and validation loss; `epoch` counts from 0."""
    place = f"; first in {fault[1]}" if fault else ""
    return (
        f"epoch {epoch + 1}, after step {steps}: the training loss is {losses[0]:g} and the validation loss "
        f"{losses[1]:g}, at a learning rate of {rate:g}{place}."
    )


def advice(may_skip: bool, has_model: bool) -> str:
    """Return what the user can do, and which results there are."""
    results = "model.pt has the best weights so far" if has_model else "no epoch is done yet"
    skip = "set training.on_nan=skip to continue from the checkpoint, or " if may_skip else ""
    restart = "train again (--restart) with a lower optimizer.learning_rate or optimizer.clip_norm"
    return f"To do: {skip}{restart}; {results}."


def first_in_forward(network: nn.Module, states: torch.Tensor, forward: Callable[[], Any]) -> Finding | None:
    """Run a batch through the network again, and return the first place with a value that is not finite, None if none.

    Parameters
    ----------
    network : nn.Module
        With the weights from before the step.
    states : torch.Tensor
        States of the batch.
    forward : callable
        Runs the batch through the network. All ranks must call it together, because they sum batch statistics.

    Returns
    -------
    tuple of int and str
        Position on the way through the network, and name of the place.
    """
    findings: list[Finding] = []
    calls = 0

    def check_output(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            values = output[0] if isinstance(output, tuple) else output
            if not findings and not torch.isfinite(values).all():
                findings.append((1 + calls, f"the output of layer {name}"))

        return hook

    layers = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(check_output(name)) for name, module in layers]
    try:
        with torch.no_grad():
            forward()
    finally:
        for handle in handles:
            handle.remove()
    broken = next((name for name, value in network.named_parameters() if not torch.isfinite(value).all()), None)
    if broken is not None:
        return 0, f"the weights {broken}"
    if not torch.isfinite(states).all():
        return 1, "the states that the network reads"
    return findings[0] if findings else None


def first_in_backward(network: nn.Module) -> Finding:
    """Return the first weights of the backward pass, the nearest to the scores, with a gradient that is not finite."""
    names = [
        name for name, weights in network.named_parameters()
        if weights.grad is not None and not torch.isfinite(weights.grad).all()
    ]  # fmt: skip
    # The norm may overflow although each gradient is finite.
    return BACKWARD, f"the gradient of {names[-1]}" if names else "the norm of the gradient"
