"""Early check of the user's own optimiser, loss and schedule."""

from __future__ import annotations

from importlib.util import find_spec

from rcdp_hpc.config import Config
from rcdp_hpc.config.choices import is_user_class

# Classes of the trial of a loss; the training checks it again with the classes of the data.
TRIAL_CLASSES = 3


def check_user_choices(config: Config) -> None:
    """Import the user's own optimiser, loss and schedule, and check that they keep their contracts.

    Nothing is imported if all three are the package's own, if the readout is solved instead of trained, or if torch is
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
    if not user_kinds or not config.readout.trained or find_spec("torch") is None:
        return
    from rcdp_hpc.networks.losses import load_loss
    from rcdp_hpc.training.optim.optimizers import check_optimizer
    from rcdp_hpc.training.optim.schedules import check_schedule

    if "optimizer" in user_kinds:
        check_optimizer(config)
    if "loss" in user_kinds:
        load_loss(config.loss, TRIAL_CLASSES)
    if "schedule" in user_kinds:
        check_schedule(config)
