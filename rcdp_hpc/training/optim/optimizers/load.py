"""Creation of the optimiser that a configuration names."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import torch
from torch import nn

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import OPTIMIZERS
from rcdp_hpc.errors import InputError, RcdpError
from rcdp_hpc.runtime.user_code import load_choice

# Files of torch and of this folder, whose lines do not tell a user what to change.
LIBRARIES = (str(Path(torch.__file__).parent), str(Path(__file__).parent))


def make_optimizer(config: Config, network: nn.Module) -> torch.optim.Optimizer:
    """Return the optimiser of ``optimizer.kind`` for the trainable weights of a network.

    Its class is called with ``lr``, with ``weight_decay`` if the constructor has such a parameter, and with what the
    class method ``options(config)`` returns, if the class has one.

    Parameters
    ----------
    config : Config
    network : nn.Module

    Raises
    ------
    InputError
        If the class cannot be imported or created, is not a `torch.optim.Optimizer`, or does not take the arguments.
    """
    name = config.optimizer.kind
    kind = _loaded_class(name)
    arguments = _arguments(kind, config)
    # Horovod derives a class from the optimiser's and calls its constructor with the weights alone.
    bound = type(kind.__name__, (kind,), {"__init__": partialmethod(kind.__init__, **arguments)})
    weights = [weights for weights in network.parameters() if weights.requires_grad]
    with errors_explained(name, f"{kind.__name__}({', '.join(arguments)})"):
        optimizer: torch.optim.Optimizer = bound(weights)
    return optimizer


def _loaded_class(name: str) -> type[torch.optim.Optimizer]:
    kind = load_choice(OPTIMIZERS, name)
    if not isinstance(kind, type) or not issubclass(kind, torch.optim.Optimizer):
        raise refusal(name, "it is not a class derived from torch.optim.Optimizer")
    return kind


def _arguments(kind: type[torch.optim.Optimizer], config: Config) -> dict[str, Any]:
    """Return the keyword arguments of the constructor."""
    name, decay = config.optimizer.kind, config.optimizer.weight_decay
    with errors_explained(name, "options"):
        options: dict[str, Any] = kind.options(config) if hasattr(kind, "options") else {}
    parameters = inspect.signature(kind).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    if "lr" not in parameters and not takes_any:
        raise refusal(name, f"the constructor has the parameters ({', '.join(parameters)}); expected one named lr")
    arguments = {"lr": config.optimizer.learning_rate, **options}
    if "weight_decay" in parameters or takes_any:
        arguments.setdefault("weight_decay", decay)
    elif decay:
        raise refusal(
            name,
            f"the constructor has no parameter weight_decay, but optimizer.weight_decay = {decay:g}: set it to 0 "
            "(loss.l2 is a penalty for every optimiser)",
        )
    return arguments


@contextmanager
def errors_explained(name: str, call: str) -> Iterator[None]:
    """Raise any error of an optimiser's code as an `InputError` that names the class, the call and the line.

    Parameters
    ----------
    name : str
        The value of ``optimizer.kind``.
    call : str
        The call in the block, for the message.
    """
    try:
        yield
    except RcdpError:
        raise
    except (Exception, SystemExit) as error:  # the user's class may raise any error
        frames = traceback.extract_tb(error.__traceback__)
        place = next((frame for frame in reversed(frames) if not frame.filename.startswith(LIBRARIES)), frames[-1])
        raise refusal(
            name, f"{call} raised {type(error).__name__}: {error} ({place.filename}, line {place.lineno})"
        ) from error


def refusal(name: str, problem: str) -> InputError:
    """Return the error about an optimiser that breaks its contract."""
    return InputError(f"optimizer.kind = {name!r}: {problem} (docs/extending.md)")
