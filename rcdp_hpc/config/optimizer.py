"""``[loss]``, ``[optimizer]`` and ``[schedule]``: what the training minimises, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from rcdp_hpc.config.choices import LOSSES, OPTIMIZERS, SCHEDULES
from rcdp_hpc.config.section import PATH, Section, one_or_several


class LossSection(Section):
    """What the training minimises (eq. 12)."""

    kind: Annotated[str, AfterValidator(LOSSES.accepted)] = Field("cross_entropy", description="loss")
    focal_gamma: float = Field(
        2.0,
        ge=0,
        le=10,
        description="focusing parameter: the higher, the less well-predicted rows count (focal)",
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="fraction of the target that is spread evenly over all classes"
    )
    logit_tau: float = Field(
        1.0,
        gt=0,
        le=10,
        description="factor of the logarithms of the class shares that are added to the scores (logit_adjusted)",
    )
    ldam_margin: float = Field(
        2.0,
        gt=0,
        le=100,
        description="margin of the smallest class, in units of the scores (ldam)",
    )
    class_weights: Literal["none", "balanced", "effective"] = Field(
        "none",
        description="weight of a row in the loss, also of a solved readout",
    )
    effective_beta: float = Field(
        0.999,
        gt=0,
        lt=1,
        description="beta of the effective number of samples of a class, (1 - beta^n) / (1 - beta) of n rows: the "
        "nearer to 1, the nearer to balanced (class_weights = effective)",
    )
    weights_from_epoch: int = Field(
        0,
        ge=0,
        description="epochs before the class weights begin (deferred re-weighting); the validation loss always has "
        "them",
    )
    teacher: Annotated[list[str], BeforeValidator(one_or_several)] = Field(
        default_factory=list,
        description="model.pt or run directory of a trained model whose probabilities the training imitates "
        "(distillation); of several models the mean; [] is none",
        json_schema_extra=PATH,
    )
    teacher_weight: float = Field(
        0.9, gt=0, le=1, description="weight a of the teacher: the loss is (1 - a) loss.kind + a T^2 KL (loss.teacher)"
    )
    teacher_temperature: float = Field(
        4.0,
        ge=1,
        le=100,
        description="temperature T, by which scores are divided before the teacher is imitated (loss.teacher)",
    )
    l1: float = Field(
        0.0,
        ge=0,
        le=1,
        description="L1 penalty on the weight matrices, as a proximal step after each update, which makes entries "
        "exactly zero (with l2: elastic net)",
    )
    l2: float = Field(
        0.0, ge=0, le=1, description="L2 penalty on the weight matrices, in the loss with every optimiser"
    )


class OptimizerSection(Section):
    """How gradients change the weights."""

    kind: Annotated[str, AfterValidator(OPTIMIZERS.accepted)] = Field(
        "adam",
        description="optimiser",
    )
    momentum: float = Field(0.9, ge=0, lt=1, description="momentum (sgd, muon)")
    nesterov: bool = Field(False, description="Nesterov momentum (sgd)")
    learning_rate: float = Field(1e-3, gt=0, le=10, description="highest learning rate (paper: 0.001)")
    rate_scaling: Literal["none", "sqrt", "linear"] = Field(
        "none",
        description="factor of the learning rate that depends on the number of ranks",
    )
    clip_norm: float = Field(0.0, ge=0, description="largest norm of the averaged gradient; 0 is no limit")
    weight_decay: float = Field(
        0.0,
        ge=0,
        le=1,
        description="weight decay: an L2 penalty with adam and sgd, decoupled with adamw, lamb and muon",
    )
    ema: float = Field(
        0.0,
        ge=0,
        lt=1,
        description="decay of an exponential moving average of the weights, which is evaluated and saved; 0 is none",
    )


class ScheduleSection(Section):
    """The learning rate over time."""

    kind: Annotated[str, AfterValidator(SCHEDULES.accepted)] = Field(
        "constant",
        description="learning rate over time",
    )
    interval: int = Field(
        10,
        ge=1,
        description="epochs between reductions (step), or without a better validation loss before one (plateau)",
    )
    factor: float = Field(0.1, gt=0, lt=1, description="factor of the learning rate at each reduction (step, plateau)")
    warmup_epochs: float = Field(
        0.0, ge=0, description="warm-up length in epochs, in which the learning rate rises from near 0"
    )
    warmup_steps: int = Field(0, ge=0, description="warm-up length in steps (instead of warmup_epochs)")
