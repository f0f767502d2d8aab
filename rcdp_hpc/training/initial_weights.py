"""The weights of a trained model as the start of a training (``training.initial``)."""

from __future__ import annotations

import logging

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.model_file import ModelFile
from rcdp_hpc.model.named_model import named_model
from rcdp_hpc.networks.base import Network

log = logging.getLogger(__name__)

RESTORE = "Restore the file from a backup, or name another model."


def load_initial(network: Network, config: Config, shards: ShardReader) -> None:
    """Give a network the weights of the model that ``training.initial`` names, its standardisation included.

    The file is only read: no code that it names runs.

    Raises
    ------
    InputError
        If there is no such model, or it is of another architecture or other classes.
    DataDamagedError
        If the file is damaged.
    """
    path = named_model("training.initial", config.training.initial)
    file = ModelFile.read(path, RESTORE)
    if list(file.classes) != list(shards.classes):
        raise InputError(
            f"training.initial = {path}: a model of the classes {', '.join(file.classes)}; these data have "
            f"{', '.join(shards.classes)}"
        )
    expected = network.state_dict()
    for name in sorted(set(file.weights) ^ set(expected)):
        verb = "has" if name in file.weights else "lacks"
        raise InputError(f"training.initial = {path}: the model {verb} the weights {name!r}. {_same(config)}")
    for name, value in expected.items():
        if file.weights[name].shape != value.shape:
            raise InputError(
                f"training.initial = {path}: {name!r} has the shape {tuple(file.weights[name].shape)}, expected "
                f"{tuple(value.shape)}. {_same(config)}"
            )
    network.load_state_dict(file.weights)
    log.info("the training starts from the weights of %s", path)


def _same(config: Config) -> str:
    return (
        "Name a model of the same extractor, reservoir and readout, or leave training.initial empty "
        f"(readout.kind = {config.readout.kind!r})"
    )
