"""Where a training stops being finite: which layer was the first, over all ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from rcdp_hpc.errors import StageFailedError

# Whatever is met in the forward pass comes before all that the backward pass meets.
BACKWARD = 1_000_000

Finding = tuple[int, str]


class DivergedError(StageFailedError):
    """A step gave no finite gradient, or an epoch no finite loss.

    Attributes
    ----------
    whole : bool
        Whether the state is sound, and that of all ranks, so that a checkpoint can be written of it.
    """

    def __init__(self, message: str, whole: bool = True) -> None:
        super().__init__(message)
        self.whole = whole


def describe(epoch: int, step: int, loss: float, rate: float, fault: Finding) -> str:
    """Return what happened in a step; epoch and step count from 0."""
    return (
        f"epoch {epoch + 1}, step {step + 1}: the loss is {loss:g} and its gradient not finite, at a learning rate of "
        f"{rate:g}; first in {fault[1]}."
    )


def describe_epoch(epoch: int, steps: int, losses: tuple[float, float], rate: float, fault: Finding | None) -> str:
    """Return how an epoch ended whose loss, in training or validation, is not finite; it counts from 0."""
    place = f"; first in {fault[1]}" if fault else ""
    return (
        f"epoch {epoch + 1}, after step {steps}: the training loss is {losses[0]:g} and the validation loss "
        f"{losses[1]:g}, at a learning rate of {rate:g}{place}."
    )


def advice(may_skip: bool, model_kept: bool) -> str:
    """Return what the user can do, and what is kept."""
    kept = "model.pt holds the best weights so far" if model_kept else "no epoch was done yet"
    skip = "set training.on_nan=skip to go on from the checkpoint, or " if may_skip else ""
    return f"To do: {skip}train anew (--restart) with a lower optimizer.learning_rate or optimizer.clip_norm; {kept}."


def first_in_forward(network: nn.Module, states: torch.Tensor, forward: Callable[[], Any]) -> Finding | None:
    """Return the first place that is not finite when a batch runs through the network again, None where there is none.

    Parameters
    ----------
    network : nn.Module
        With the weights that the step began with.
    states : torch.Tensor
        What the batch gives it.
    forward : callable
        Runs the batch through it; all ranks must do so together, for their batch statistics.

    Returns
    -------
    tuple of int and str
        A number that grows along the way through the network, and the name of the place.
    """
    found: list[Finding] = []
    calls = 0

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            nonlocal calls
            calls += 1
            values = output[0] if isinstance(output, tuple) else output
            if not found and not torch.isfinite(values).all():
                found.append((1 + calls, f"the output of layer {name}"))

        return hook

    layers = [(name, module) for name, module in network.named_modules() if not any(module.children())]
    handles = [module.register_forward_hook(look(name)) for name, module in layers]
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
    return found[0] if found else None


def first_in_backward(network: nn.Module) -> Finding:
    """Return the weights nearest to the scores whose gradient is not finite: the backward pass meets them first."""
    names = [
        name for name, weights in network.named_parameters()
        if weights.grad is not None and not torch.isfinite(weights.grad).all()
    ]  # fmt: skip
    # Each gradient may be finite and their norm not.
    return BACKWARD, f"the gradient of {names[-1]}" if names else "the norm of the gradient"
