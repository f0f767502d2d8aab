"""The base class of the package's own optimisers: steps that read nothing back from the device."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, TypeVar

import torch

T = TypeVar("T")
Tensors = list[torch.Tensor]


class DeviceOptimizer(torch.optim.Optimizer):
    """An optimiser whose step runs on the device alone, so that it can be recorded and repeated.

    ``group["lr"]`` is a number, or a tensor without axes that the step reads when it runs. Everything else that changes
    from step to step is in tensors on the device of the weights, the count of the steps included.

    Attributes
    ----------
    reads_nothing_back : bool
        True: the learning rate may be a tensor, and `found_inf` is honoured.
    found_inf : torch.Tensor, float32, 0-dim, optional
        Where it is 1, a step leaves weights and state as they are, whatever the gradients hold (the name and the values
        that optimisers of torch have for it). None: every step counts.
    """

    reads_nothing_back: ClassVar[bool] = True
    found_inf: torch.Tensor | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Update the weights.

        Parameters
        ----------
        closure : callable, optional
            Computes loss and gradients before the update.

        Returns
        -------
        The loss that `closure` returns; None without `closure`.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [values for values in group["params"] if values.grad is not None]
            if weights:
                self._update(weights, [values.grad for values in weights], group)
        return loss

    @abstractmethod
    def _update(self, weights: Tensors, gradients: Tensors, group: dict[str, Any]) -> None:
        """Update the tensors of a group in place; none of the lists is empty."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint, with learning rates as numbers."""
        content = super().state_dict()
        for group in content["param_groups"]:
            group["lr"] = float(group["lr"])
        return content

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Continue from a state, also from one that counts steps with Python's integers.

        A learning rate that is a tensor stays this tensor, and gets the value of the state.
        """
        rates = [group["lr"] for group in getattr(self, "param_groups", ())]
        super().__setstate__(state)
        self.__dict__.pop("_scratch", None)
        for group, rate in zip(self.param_groups, rates, strict=False):
            if isinstance(rate, torch.Tensor):
                group["lr"] = rate.fill_(float(group["lr"]))
        for group in self.param_groups:
            for weights in group["params"]:
                if "step" in (values := self.state.get(weights, {})):
                    values["step"] = torch.as_tensor(values["step"], dtype=torch.float32, device=weights.device)

    def _scratch_of(self, weights: Tensors, make: Callable[[], T]) -> T:
        """Return what `make` returned for these weights the first time: buffers and constants that are no state."""
        table: dict[tuple[Any, ...], T] = self.__dict__.setdefault("_scratch", {})
        key = (weights[0].device, *map(id, weights))
        if key not in table:
            table[key] = make()
        return table[key]

    def _adam_state(self, weights: Sequence[torch.Tensor]) -> tuple[Tensors, Tensors, Tensors]:
        """Return the steps and both moments of Adam for each tensor; zeros before the first step."""
        for values in weights:
            if not self.state[values]:
                self.state[values].update(
                    step=torch.zeros((), dtype=torch.float32, device=values.device),
                    exp_avg=torch.zeros_like(values),
                    exp_avg_sq=torch.zeros_like(values),
                )
        states = [self.state[values] for values in weights]
        steps, first, second = ([state[name] for state in states] for name in ("step", "exp_avg", "exp_avg_sq"))
        return steps, first, second

    def _adam_step(self, weights: Tensors, gradients: Tensors, group: Mapping[str, Any], *, decoupled: bool) -> None:
        """Take a step of Adam, or of AdamW with `decoupled` weight decay, by torch's fused kernels.

        With the gradient g_t: ``m_t = b1 m_(t-1) + (1 - b1) g_t`` and ``v_t = b2 v_(t-1) + (1 - b2) g_t^2``; the step
        is ``- lr (m_t / (1 - b1^t)) / (sqrt(v_t / (1 - b2^t)) + eps)`` (Kingma and Ba, "Adam: a method for stochastic
        optimization", 2015, algorithm 1; Loshchilov and Hutter 2019 for the decoupled decay).
        """
        steps, first, second = self._adam_state(weights)
        kernel = torch._fused_adamw_ if decoupled else torch._fused_adam_
        torch._foreach_add_(steps, 1)
        kernel(
            weights, gradients, first, second, [], steps,
            lr=group["lr"], beta1=group["betas"][0], beta2=group["betas"][1], weight_decay=group["weight_decay"],
            eps=group["eps"], amsgrad=False, maximize=False, grad_scale=None, found_inf=self.found_inf,
        )  # fmt: skip
        if self.found_inf is not None:
            torch._foreach_sub_(steps, [self.found_inf] * len(steps))


class GradientMask:
    """Gradients and factors of a step that has to change nothing where a flag is set.

    Gradients become 0 there, by a choice, since NaN times 0 is NaN.

    Parameters
    ----------
    weights : list of torch.Tensor
        Of one dtype, on one device.
    """

    def __init__(self, weights: Tensors) -> None:
        self.sizes = [values.numel() for values in weights]
        self.flat = weights[0].new_empty(0)
        self.views: Tensors = []

    def of(self, gradients: Tensors, flag: torch.Tensor | None) -> Tensors:
        """Return the gradients, as zeros where `flag` (0-dim, bool) is True."""
        if flag is None:
            return gradients
        if not self.views:
            self.flat = torch.zeros(sum(self.sizes), dtype=self.flat.dtype, device=self.flat.device)
            parts = self.flat.split(self.sizes)
            self.views = [part.view(values.shape) for part, values in zip(parts, gradients, strict=True)]
        torch._foreach_copy_(self.views, gradients)
        self.flat.masked_fill_(flag, 0)
        return self.views


def unless(flag: torch.Tensor | None, factors: torch.Tensor) -> torch.Tensor:
    """Return factors, or ones where `flag` (0-dim, bool) is True."""
    return factors if flag is None else factors.masked_fill(flag, 1)


def rate_of(group: Mapping[str, Any], found_inf: torch.Tensor | None, device: torch.device) -> torch.Tensor:
    """Return the learning rate of a group without axes, 0 where `found_inf` is 1."""
    rate = group["lr"]
    if isinstance(rate, torch.Tensor):
        return rate if found_inf is None else torch.addcmul(rate, rate, found_inf, value=-1)
    if found_inf is None:
        return torch.full((), rate, dtype=torch.float64, device=device)
    return torch.rsub(found_inf, rate, alpha=rate)
