"""Early check of the user's own optimiser, loss, schedule and activation of the readout."""

from __future__ import annotations

from importlib.util import find_spec

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import is_user_class, readout_choice

# Classes of the trial of a loss; the training checks it again with the classes of the data.
TRIAL_CLASSES = 3


def check_user_choices(config: Config) -> None:
    """Import the user's own optimiser, loss, schedule and activation of the readout, and check their contracts.

    Nothing is imported if all are the package's own, if the readout is solved instead of trained, or if torch is
    not installed, as for a preparation.

    Parameters
    ----------
    config : Config

    Raises
    ------
    InputError
        If one of them cannot be imported or breaks its contract (docs/extending.md).
    """
    user_kinds = {kind for kind in ("optimizer", "loss", "schedule") if is_user_class(getattr(config, kind).kind)}
    activations = _own_activations(config)
    if not (user_kinds or activations) or not config.readout.trained or find_spec("torch") is None:
        return
    from rcdp_hpc.networks.losses import load_loss
    from rcdp_hpc.networks.readouts.activation import check_differentiable
    from rcdp_hpc.training.optim.optimizers import check_optimizer
    from rcdp_hpc.training.optim.schedules import check_schedule

    if "optimizer" in user_kinds:
        check_optimizer(config)
    if "loss" in user_kinds:
        load_loss(config.loss, TRIAL_CLASSES)
    if "schedule" in user_kinds:
        check_schedule(config)
    for name in activations:
        check_differentiable(name)


def _own_activations(config: Config) -> list[str]:
    """Return the user's own activations of the readout, those that the search may choose included."""
    if "readout.activation" not in readout_choice(config.readout.kind).keys:
        return []
    searched = config.search.space.readout_activation if config.has_search else None
    choices = [] if searched is None else searched.choices or []
    return [str(name) for name in (config.readout.activation, *choices) if is_user_class(str(name))]
