"""Trial of the configured optimiser on a small layer, before anything expensive starts."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from rcdp_hpc.config import Config
from rcdp_hpc.training.optim.optimizers.load import errors_explained, make_optimizer, refusal

STEPS = 4
# Calls whose results the host waits for.
READ_BACKS = {
    torch.ops.aten._local_scalar_dense.default,
    torch.ops.aten.is_nonzero.default,
    torch.ops.aten.nonzero.default,
    torch.ops.aten.masked_select.default,
    torch.ops.aten.equal.default,
}


def check_optimizer(config: Config) -> None:
    """Check that the configured optimiser keeps its contract (docs/extending.md, "An optimiser of the training").

    Parameters
    ----------
    config : Config

    Raises
    ------
    InputError
        If the optimiser cannot be created; if a step fails, changes nothing, ignores the learning rate of its groups or
        draws random numbers; if it does not continue from its saved state with the same bits; or if it has
        ``reads_nothing_back`` and reads a value, or ignores the learning rate or ``found_inf`` as tensors.
    """
    name = config.optimizer.kind
    generator = torch.get_rng_state()
    whole = _Trial(config)
    whole.check_groups(config.optimizer.learning_rate)
    whole.step(range(STEPS))
    if torch.equal(whole.values(), _Trial(config).values()):
        raise refusal(name, f"{STEPS} steps change no weight")
    if not bool(torch.isfinite(whole.values()).all()):
        raise refusal(name, f"weights are not finite after {STEPS} steps with gradients between -1 and 1")
    repeated = _Trial(config)
    repeated.step(range(STEPS))
    if not torch.equal(torch.get_rng_state(), generator) or not torch.equal(repeated.values(), whole.values()):
        raise refusal(name, "steps depend on random numbers, so that ranks and repeated trainings would differ")
    _check_learning_rate(config, whole)
    _check_resume(config, whole)
    if getattr(whole.optimizer, "reads_nothing_back", False):
        _check_device_steps(config, whole)


def _check_learning_rate(config: Config, whole: _Trial) -> None:
    """Check that the schedule can change the learning rate of a training under way."""
    slower = _Trial(config)
    slower.step(range(1))
    for group in slower.optimizer.param_groups:
        group["lr"] *= 0.5
    slower.step(range(1, STEPS))
    if torch.equal(slower.values(), whole.values()):
        raise refusal(
            config.optimizer.kind,
            'steps do not depend on group["lr"] of param_groups, which the schedule sets before each step',
        )


def _check_resume(config: Config, whole: _Trial) -> None:
    """Check that a checkpoint holds all that further steps depend on."""
    first, second = _Trial(config), _Trial(config)
    first.step(range(STEPS // 2))
    state = first.saved_state()
    with torch.no_grad():
        for weights, trained in zip(second.layer.parameters(), first.layer.parameters(), strict=True):
            weights.copy_(trained)
    with errors_explained(config.optimizer.kind, "load_state_dict"):
        second.optimizer.load_state_dict(state)
    second.step(range(STEPS // 2, STEPS))
    if not torch.equal(second.values(), whole.values()):
        raise refusal(
            config.optimizer.kind,
            "it takes other steps after load_state_dict(state_dict()): expected everything that changes from step to "
            "step in self.state[parameter] or in param_groups",
        )


def _check_device_steps(config: Config, whole: _Trial) -> None:
    """Check that steps can be recorded: all that changes between them is in tensors, and none of it is read back."""
    by_tensor = _Trial(config)
    by_tensor.use_tensors()
    by_tensor.step(range(STEPS))
    if not torch.allclose(by_tensor.values(), whole.values(), rtol=1e-3, atol=1e-6):
        raise refusal(
            config.optimizer.kind,
            'it has reads_nothing_back, and takes other steps if group["lr"] is a tensor without axes',
        )
    halted = _Trial(config)
    halted.use_tensors()
    for number in range(STEPS):
        halted.step_left_out()
        halted.step([number])
    if not torch.equal(halted.values(), by_tensor.values()):
        raise refusal(
            config.optimizer.kind,
            "it has reads_nothing_back, and a step with self.found_inf = 1, whose gradients are NaN, changes the "
            "weights or later steps",
        )


class _NoReadBacks(TorchDispatchMode):
    """Raises a `RuntimeError` within a ``with`` block if a value of a tensor is read."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, which takes seconds, to keep it out

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if operation in READ_BACKS:
            raise RuntimeError("the value of a tensor is read, which steps of a class with reads_nothing_back must not")
        return operation(*args, **(kwargs or {}))


class _Trial:
    """The optimiser and a layer of three inputs and two outputs with fixed weights and gradients."""

    def __init__(self, config: Config) -> None:
        self.name = config.optimizer.kind
        with torch.random.fork_rng(devices=[]):
            self.layer = nn.Linear(3, 2, device="cpu")
        with torch.no_grad():
            for weights in self.layer.parameters():
                weights.copy_(torch.linspace(-1, 0.7, weights.numel()).view(weights.shape))
        self.optimizer = make_optimizer(config, self.layer)
        self.guard: AbstractContextManager[Any] = nullcontext()

    def use_tensors(self) -> None:
        """Give learning rate and ``found_inf`` to the next steps as tensors, and let them read no value."""
        for group in self.optimizer.param_groups:
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32)
        self.optimizer.found_inf = torch.zeros(())  # type: ignore[attr-defined]
        self.guard = _NoReadBacks()

    def check_groups(self, rate: float) -> None:
        """Check that the optimiser holds the weights, and the learning rate where the schedule sets it."""
        groups: Sequence[dict[str, Any]] = self.optimizer.param_groups
        held = {id(weights) for group in groups for weights in group["params"]}
        if held != {id(weights) for weights in self.layer.parameters()}:
            raise refusal(
                self.name, "param_groups do not hold the weights; expected super().__init__(params, defaults)"
            )
        if not all(group.get("lr") == rate for group in groups):
            found = ", ".join(repr(group.get("lr")) for group in groups)
            raise refusal(
                self.name, f'group["lr"] of param_groups is {found}; expected optimizer.learning_rate, {rate:g}'
            )

    def step(self, numbers: Sequence[int]) -> None:
        """Take steps; the gradients depend on a step's number."""
        for number in numbers:
            for weights in self.layer.parameters():
                values = torch.linspace(1, -0.6, weights.numel()) * (1 - 0.3 * number)
                weights.grad = values.view(weights.shape)
            self._step()

    def step_left_out(self) -> None:
        """Take a step with gradients of NaN that has to change nothing."""
        for weights in self.layer.parameters():
            weights.grad = torch.full_like(weights, math.nan)
        found_inf: torch.Tensor = self.optimizer.found_inf  # type: ignore[attr-defined]
        found_inf.fill_(1)
        self._step()
        found_inf.fill_(0)

    def _step(self) -> None:
        with errors_explained(self.name, "step()"), self.guard:
            self.optimizer.step()

    def values(self) -> torch.Tensor:
        """Return a copy of all weights as one vector."""
        return torch.cat([weights.detach().flatten() for weights in self.layer.parameters()])

    def saved_state(self) -> dict[str, Any]:
        """Return the state as a checkpoint would give it back."""
        file = io.BytesIO()
        with errors_explained(self.name, "state_dict"):
            torch.save(self.optimizer.state_dict(), file)
        file.seek(0)
        try:
            state: dict[str, Any] = torch.load(file, weights_only=True)
        except Exception:  # torch advises to load such a file without checks
            raise refusal(
                self.name, "state_dict() holds other objects than tensors, numbers, texts, lists, tuples and dicts"
            ) from None
        return state
