"""The rule of a trained model's answers: its calibration, and the stated priors, thresholds and costs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from rcdp_hpc.config import Config
from rcdp_hpc.data.shards.reader import ShardReader
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answer_rule import AnswerRule, check_prediction, read_rule, stored_rule
from rcdp_hpc.model.calibration.choose import FEWEST, calibrate, refusal
from rcdp_hpc.model.calibration.scores import HeldOutScores
from rcdp_hpc.model.class_weights import class_weights
from rcdp_hpc.model.fields import Fields
from rcdp_hpc.model.model_file import TRAIN_AGAIN
from rcdp_hpc.networks.base import Network
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.collective import agree, run_on_root
from rcdp_hpc.runtime.digests import read_sealed, write_sealed
from rcdp_hpc.training.held_out_scores import gathered_rows
from rcdp_hpc.training.loop import Trainer
from rcdp_hpc.training.solve.member_rows import rows_by_class
from rcdp_hpc.training.solve.ridge_fit import left_out_suits
from rcdp_hpc.training.validation import EVALUATION_ROWS

log = logging.getLogger(__name__)

STORED = "answers.json"


def check_answers(config: Config, shards: ShardReader, width: int) -> None:
    """Refuse ``[prediction]`` that does not fit the data, before anything expensive.

    Parameters
    ----------
    config : Config
    shards : ShardReader
    width : int
        Features of the readout, which decide whether a solved readout leaves rows out.

    Raises
    ------
    InputError
        If priors, thresholds or costs do not fit the classes, or a calibration that is asked for by name has too few
        rows.
    """
    settings, classes = config.prediction, list(shards.classes)
    check_prediction(settings, classes)
    rows = shards.rows("train") + shards.rows("validation")
    single = config.readout.members == 1 and not config.readout.keep_sums
    if not config.readout.trained and single and left_out_suits(config, rows, width):
        counts = shards.class_counts("validation") + _original_counts(shards)
    else:
        counts = shards.class_counts("validation")
    if settings.calibration in FEWEST and (why := refusal(settings.calibration, counts, classes)):
        raise InputError(
            f"prediction.calibration = {settings.calibration!r}: {why}. Choose 'auto' or 'none', or a larger "
            "data.validation_fraction."
        )


def natural_counts(shards: ShardReader) -> NDArray[np.int64]:
    """Return the samples of each class in the source, before anything is left out or balanced."""
    table = shards.index["class_table"]
    return np.array([entry.get("source", entry["validation"]) for entry in table], np.int64)


def answer_rule(config: Config, comm: Communicator, shards: ShardReader, held_out: HeldOutScores | None) -> AnswerRule:
    """Return the rule of a trained model. Collective.

    Parameters
    ----------
    config : Config
    comm : Communicator
    shards : ShardReader
    held_out : HeldOutScores or None
        On rank 0: the scores of rows that the model was not fitted to; None leaves the probabilities as they are.

    Raises
    ------
    InputError
        If there are too few rows for a calibration that is asked for by name.
    """
    return run_on_root(comm, lambda: _rule(config, shards, held_out))


def plain_rule(config: Config, shards: ShardReader) -> AnswerRule:
    """Return the rule of a model that is not calibrated, with the priors, thresholds and costs of the configuration."""
    rule = AnswerRule(shares=_learned_shares(config, shards.class_counts("train")))
    return rule.with_settings(config.prediction, list(shards.classes))


def _calibrated_shares(config: Config, shards: ShardReader, method: str) -> NDArray[np.float64]:
    """Return the shares of the classes that calibrated probabilities stand for: those of the source.

    Temperature scaling has no offsets of classes: it leaves the shares that the model was trained with.
    """
    if method == "temperature":
        return _learned_shares(config, shards.class_counts("train"))
    counts = natural_counts(shards)
    return np.asarray(counts / counts.sum(), np.float64)


def _learned_shares(config: Config, counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the shares of the classes that the probabilities of a model stand for, from its training rows."""
    if config.readout.member_rows == "under_sampled":
        counts = rows_by_class(counts, config.readout.member_ratio)
    weights = class_weights(config.loss, counts)
    effective = counts if weights is None else counts * weights
    shares = np.asarray(effective / effective.sum(), np.float64)
    # What these losses subtract from the scores in the training is missing in the prediction.
    tau = {"logit_adjusted": config.loss.logit_tau, "balanced_softmax": 1.0}.get(config.loss.kind, 0.0)
    if config.readout.trained and tau:
        shares = np.where(shares > 0, shares * (np.maximum(counts, 1) / counts.sum()) ** -tau, 0.0)
    return shares / shares.sum()


def store_answer_rule(folder: Path, rule: AnswerRule) -> None:
    """Write a rule next to the checkpoints, from which a damaged model file is written again."""
    write_sealed(folder / STORED, stored_rule(rule))


def stored_answer_rule(folder: Path, classes: int) -> AnswerRule | None:
    """Return the rule that `store_answer_rule` wrote; None if there is none.

    Raises
    ------
    DataDamagedError
        If the file is damaged.
    """
    path = folder / STORED
    if not path.exists():
        return None
    content = read_sealed(path, TRAIN_AGAIN)
    return Fields(str(path), {"rule": content}, TRAIN_AGAIN).converted("rule", lambda rule: read_rule(rule, classes))


def _rule(config: Config, shards: ShardReader, held_out: HeldOutScores | None) -> AnswerRule:
    method, classes = config.prediction.calibration, list(shards.classes)
    calibration = None
    if method != "none" and held_out is not None:
        calibration = calibrate(method, held_out, classes)
        if calibration is None:
            _report_none(held_out, classes)
    if calibration is None:
        rule = plain_rule(config, shards)
    else:
        log.info("probabilities are calibrated by %s", calibration.describe())
        rule = AnswerRule(calibration, _calibrated_shares(config, shards, calibration.method))
        rule = rule.with_settings(config.prediction, classes)
    if rule.decides:
        log.info("predictions are %s", rule.describe())
    return rule


def _report_none(held_out: HeldOutScores, classes: list[str]) -> None:
    why = refusal("temperature", held_out.class_rows, classes)
    if why:
        log.info("probabilities are not calibrated: %s", why)
    else:
        log.info(
            "probabilities are not calibrated: no calibration on %d %s rows has a smaller log loss than the model",
            *(len(held_out.labels), held_out.kind),
        )


def _original_counts(shards: ShardReader) -> NDArray[np.int64]:
    """Return the training rows of each class that are not synthetic."""
    train = shards.index["splits"]["train"]
    return np.asarray(train["class_counts"], np.int64) - np.asarray(train["synthetic_counts"], np.int64)


def network_scores(trainer: Trainer, comm: Communicator) -> HeldOutScores | None:
    """Return the scores of the validation rows by the best weights, on rank 0; None on other ranks. Collective.

    The rows are in the order of the shards. The trainer keeps its weights.
    """
    model, rows = cast(Network, trainer.evaluated_model), trainer.validation
    current = {name: value.clone() for name, value in model.state_dict().items()}

    def local() -> NDArray[np.float64]:
        model.load_state_dict(trainer.best_weights)
        model.eval()
        found = []
        with torch.no_grad():
            for numbers in torch.arange(len(rows), device=rows.device).split(EVALUATION_ROWS):
                states, labels = rows.batch(numbers)
                raw, scores = model.scored(states)
                found.append(torch.cat([labels[:, None].double(), raw.double(), scores.double()], dim=1))
        return np.asarray(torch.cat(found).cpu().numpy())

    try:
        gathered = gathered_rows(comm, agree(comm, local))
    finally:
        model.load_state_dict(current)
    if gathered is None:
        return None
    classes = (gathered.shape[1] - 1) // 2
    labels = gathered[:, 0].astype(np.int64)
    return HeldOutScores(gathered[:, 1 + classes :], gathered[:, 1 : 1 + classes], labels)
