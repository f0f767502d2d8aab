"""The rule of the answers: calibration, priors, thresholds and costs."""

from __future__ import annotations

import numpy as np

from rcdp_hpc.config import Config
from rcdp_hpc.deploy.export.lowering.builder import Builder
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answer_rule import AnswerRule
from rcdp_hpc.model.calibration.scaling import ScaledScores
from rcdp_hpc.networks.base import LEAST_PROBABILITY


def lower_answers(builder: Builder, config: Config, rule: AnswerRule, raw: str, z: str) -> tuple[str, str]:
    """Append what `AnswerRule.answers` does.

    Parameters
    ----------
    builder : Builder
    config : Config
    rule : AnswerRule
    raw : str
        The probabilities of the model itself.
    z : str
        Of a solved readout what approximates one-hot classes; empty for other readouts.

    Returns
    -------
    probabilities : str
        As reported.
    decision : str
        The value whose largest entry is the class that is answered.

    Raises
    ------
    InputError
        If the calibration has no operations.
    """
    if rule.is_plain:
        return raw, raw
    reported = raw if rule.calibration is None else _calibrated(builder, rule, z or _logarithms(builder, raw))
    factors = rule.factors()
    if factors is not None:
        moved = builder.affine(reported, np.zeros(1), factors, axis=1, name="priors")
        reported = builder.op("shares", moved, least=0.0, shift=False)
    if not rule.decides:
        return reported, raw
    decision = rule.decision()
    return reported, reported if decision is None else builder.linear(reported, decision.T, name="decision")


def _logarithms(builder: Builder, raw: str) -> str:
    clipped = builder.op("activation", raw, name="clip", low=LEAST_PROBABILITY, high=None)
    return builder.op("activation", clipped, name="log")


def _calibrated(builder: Builder, rule: AnswerRule, scores: str) -> str:
    assert rule.calibration is not None
    calibrator = rule.calibration.calibrator
    if not isinstance(calibrator, ScaledScores):
        raise InputError(
            f"prediction.calibration = {calibrator.method!r} has no operations in exported files. Export as "
            ".safetensors or with --uncalibrated, or train with prediction.calibration = 'vector'."
        )
    scaled = builder.affine(scores, np.zeros(1), calibrator.factors, calibrator.offsets, axis=1, name="calibration")
    return builder.op("softmax", scaled)
