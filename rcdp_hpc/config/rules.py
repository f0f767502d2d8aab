"""What settings demand of one another: one table, checked whenever a configuration is loaded.

The bounds of a single value are next to its key. What needs the data is checked when the data are read
(`rcdp_hpc.pipeline.data_checks`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rcdp_hpc.config.choices import BALANCING_METHODS, READOUTS, balancing_choice, extractor_choice, readout_choice
from rcdp_hpc.config.choices.chosen_by import OF_PROBABILITIES, named_criterion
from rcdp_hpc.config.choices.losses import loss_choice
from rcdp_hpc.config.data import FILLS
from rcdp_hpc.config.optimizer import LossSection
from rcdp_hpc.config.search import DIMENSION_KEYS, RangeSection
from rcdp_hpc.config.section import Section
from rcdp_hpc.config.training import TrainingSection

if TYPE_CHECKING:
    from rcdp_hpc.config.root import Config

Test = Callable[["Config"], bool]

# A class of the user's own may remove rows because of their values, too.
CLEANING = [repr(choice.name) for choice in BALANCING_METHODS if balancing_choice(str(choice.name)).cleans]
# Readouts that are solved without gradients.
SOLVED = [name for name in READOUTS.names if not readout_choice(name).trained]
# Readouts that read all features of a sample at once.
WHOLE = [name for name in READOUTS.names if not readout_choice(name).stepwise]


@dataclass(frozen=True)
class Rule:
    """One setting that needs others.

    Attributes
    ----------
    key : str
        The setting, as a dotted key.
    applies : callable
        Whether a configuration uses the setting in a way that needs the others.
    needs : str or callable
        The others, as the user would write them; a callable gets the configuration, for a bound that follows from it.
    met : callable
        Whether the configuration has them.
    why : str
        The reason, as a main clause.
    """

    key: str
    applies: Test
    needs: str | Callable[[Config], str]
    met: Test
    why: str

    def problem(self, config: Config) -> str | None:
        """Return what is wrong in one sentence; None if nothing is."""
        if not self.applies(config) or self.met(config):
            return None
        needs = self.needs if isinstance(self.needs, str) else self.needs(config)
        return f"{_setting(config, self.key)} needs {needs}: {self.why}"


def _value(section: Section, key: str) -> Any:
    """Return the value of a dotted key of a section."""
    value: Any = section
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _setting(config: Config, key: str) -> str:
    """Return a key with its value; a dimension of the search space and a section only with their name."""
    value = _value(config, key)
    if key.startswith("search.space.") or isinstance(value, Section):
        return key
    return f"{key} = {str(value).lower() if isinstance(value, bool) else repr(value)}"


def _searches(test: Test) -> Test:
    """Return a test that only a configuration with a search passes."""
    return lambda config: config.has_search and test(config)


def _steps_apart(config: Config) -> bool:
    return config.parallel.replicas != "synchronised" or config.parallel.local_steps > 1


def _searched_states(config: Config) -> RangeSection | None:
    return config.search.space.states if config.has_search and config.search.generations else None


def _fewest_states(config: Config) -> float:
    bounds = _searched_states(config)
    return config.reservoir.states if bounds is None else bounds.smallest or 0.0


def _needs_sequence(config: Config) -> str:
    key = "reservoir" if _searched_states(config) is None else "search.space"
    return f"reservoir.reduction = 'all', or {key}.states of 2 or more"


def _has_sequence(config: Config) -> bool:
    reservoir = config.reservoir
    several = reservoir.reduction == ["all"] or max(_fewest_states(config), len(reservoir.steps)) > 1
    return reservoir.kind == "none" or (reservoir.reduction in (["states"], ["all"]) and several)


def _function(config: Config) -> bool:
    return config.search.evaluation == "function"


def _selects(config: Config) -> bool:
    return config.search.method == "select"


def _at_once(config: Config) -> bool:
    return config.search.candidates_at_once > 1


def _augments(config: Config) -> bool:
    augment = config.augment
    return bool(augment.changes or augment.mixup or augment.several_views)


def _keeps_sums(config: Config) -> bool:
    return config.readout.keep_sums


def _makes_sequences(config: Config) -> bool:
    return config.extractor.makes_sequences


def _trained(config: Config) -> bool:
    return config.extractor.trained


def _values_of(bounds: RangeSection | None, configured: float | str) -> list[float | str]:
    """Return the choices of a dimension; only the configured value if it is not searched or has bounds."""
    return [configured] if bounds is None or bounds.choices is None else bounds.choices


def _heads_divide_outputs(config: Config) -> bool:
    heads, bounds = config.readout.heads, config.search.space.outputs
    choices = None if bounds is None else bounds.choices
    # A choice that is not a number is refused with the space.
    return heads == 1 or bool(choices and all(isinstance(one, float) and one % heads == 0 for one in choices))


def _listed(names: list[str]) -> str:
    *first, last = [repr(name) for name in names]
    return f"{', '.join(first)} or {last}" if first else last


def _least_kernels(config: Config) -> int:
    inputs = len(config.extractor.kernel_inputs)
    return 84 * (inputs + 1 if inputs > 1 else 1)


# Keys that name the groups of samples; one of them is enough.
GROUP_KEYS = ("group_column", "group_name", "group_pattern")


def _has_groups(config: Config) -> bool:
    return config.data.names_groups


_NO_GROUPS = "no data.group_column, data.group_name or data.group_pattern"
# Why settings that draw rows do not go with units.
_OWN_ROWS = "the rows of a unit must not depend on other units"

DATA = (
    Rule(
        "data.missing_mask",
        lambda c: c.data.missing_mask,
        f"data.missing = {' or '.join(map(repr, FILLS))}",
        lambda c: c.data.missing in FILLS,
        "the channels mark the values that are filled",
    ),
    Rule(
        "data.missing_mask",
        lambda c: c.data.missing_mask,
        "reservoir.series_scaling = 'none'",
        lambda c: c.reservoir.series_scaling == "none",
        "the channels hold 0 and 1, which this scaling would change from series to series",
    ),
    Rule(
        "data.class_keep_counts",
        lambda c: bool(c.data.class_keep_counts),
        "data.class_keep_fractions = []",
        lambda c: not c.data.class_keep_fractions,
        "both say how many training samples of a class are kept",
    ),
    *(
        Rule(
            "data.unit_pattern",
            lambda c: bool(c.data.unit_pattern),
            f"data.{key} = {shown}",
            lambda c, key=key, value=value: getattr(c.data, key) == value,  # type: ignore[misc]
            why,
        )
        for key, shown, value, why in (
            ("balance", "'none'", "none", "a synthetic row belongs to the units of two samples"),
            ("folds", "0", 0, _OWN_ROWS),
            ("class_keep_fractions", "[]", [], _OWN_ROWS),
            ("class_keep_counts", "[]", [], _OWN_ROWS),
            ("reserve", "0", 0, "synthetic rows belong to no unit"),
        )
    ),
    Rule(
        "data.unit_pattern",
        lambda c: bool(c.data.unit_pattern),
        _NO_GROUPS,
        lambda c: not _has_groups(c),
        "each unit is split by itself, and a group is on one side of a split",
    ),
    *(
        Rule(
            f"data.{key}",
            lambda c, key=key: bool(getattr(c.data, key)),  # type: ignore[misc]
            f"data.{other} = ''",
            lambda c, other=other: not getattr(c.data, other),  # type: ignore[misc]
            "both say which group a sample belongs to",
        )
        for key, other in itertools.combinations(GROUP_KEYS, 2)
    ),
    Rule(
        "data.group_column",
        lambda c: bool(c.data.group_column),
        "another column than data.label_column",
        lambda c: c.data.group_column != c.data.label_column,
        "a group with all samples of a class cannot be on both sides of a split",
    ),
)

RESERVOIR = (
    Rule(
        "search.space.spectral_radius",
        lambda c: c.search.space.spectral_radius is not None,
        "reservoir.scaling = 'spectral_radius'",
        lambda c: c.reservoir.scaling == "spectral_radius",
        "otherwise the size of the weights does not follow from it",
    ),
    Rule(
        "search.space.weight_scale",
        lambda c: c.search.space.weight_scale is not None,
        "reservoir.scaling = 'weight_scale'",
        lambda c: c.reservoir.scaling == "weight_scale",
        "otherwise the size of the weights does not follow from it",
    ),
)

READOUT = (
    Rule(
        "readout.warm_start",
        lambda c: c.readout.warm_start,
        "training.baseline = true",
        lambda c: c.training.baseline,
        "the network starts from the ridge readout",
    ),
    Rule(
        "readout.warm_start",
        lambda c: c.readout.warm_start,
        "readout.kind = 'network'",
        lambda c: readout_choice(c.readout.kind).warm_start,
        "other readouts cannot start from a ridge readout",
    ),
    Rule(
        "readout.warm_start",
        lambda c: c.readout.warm_start,
        "readout.activation = 'relu'",
        lambda c: c.readout.activation == "relu",
        "the ReLU of a value and of its negative add up to it, which other functions do not",
    ),
    Rule(
        "readout.warm_start",
        lambda c: c.readout.warm_start,
        "an extractor that is not trained",
        lambda c: not _trained(c),
        "a ridge readout of its first features does not fit for long",
    ),
    Rule(
        "augment.shifts",
        lambda c: bool(c.augment.shifts),
        f"readout.kind = {_listed(SOLVED)}",
        lambda c: not c.readout.trained,
        "with a trained extractor, augment.crop shifts images",
    ),
    Rule(
        "augment.shifts",
        lambda c: bool(c.augment.shifts),
        "readout.ridge_selection = 'validation' or 'auto'",
        lambda c: c.readout.ridge_selection != "left_out",
        "shifts repeat every row, and leaving out one row at a time would leave its copies in",
    ),
    Rule(
        "readout.ridge_selection",
        lambda c: c.readout.ridge_selection == "left_out",
        _NO_GROUPS,
        lambda c: not _has_groups(c),
        "a row that is left out is predicted from other rows of its group (take 'validation' or 'auto')",
    ),
    Rule(
        "readout.keep_sums",
        _keeps_sums,
        "readout.kind = 'ridge'",
        lambda c: c.readout.kind == "ridge",
        "only its sums determine the readout",
    ),
    Rule(
        "readout.keep_sums",
        _keeps_sums,
        "data.balance = 'none'",
        lambda c: c.data.balance == "none",
        "a synthetic row belongs to the units of two samples (loss.class_weights = 'balanced' weighs classes instead)",
    ),
    Rule(
        "readout.keep_sums",
        _keeps_sums,
        "readout.ridge_selection = 'validation' or 'auto'",
        lambda c: c.readout.ridge_selection != "left_out",
        "the penalty is chosen from the sums of the validation rows",
    ),
    *(
        Rule("readout.members", lambda c: c.readout.members > 1, needs, met, why)
        for needs, met, why in (
            (
                f"readout.kind = {_listed(SOLVED)}",
                lambda c: not c.readout.trained,
                "members are solved (parallel.replicas = 'ensemble' trains networks)",
            ),
            (
                "readout.member_rows = 'under_sampled', or readout.kind = 'elm'",
                lambda c: c.readout.member_rows == "under_sampled" or not readout_choice(c.readout.kind).linear,
                "ridge readouts of the same rows are the same",
            ),
            (
                "readout.keep_sums = false",
                lambda c: not c.readout.keep_sums,
                "the sums of one readout would be kept",
            ),
            (
                "parallel.replicas = 'synchronised'",
                lambda c: c.parallel.replicas == "synchronised",
                "replicas are networks that gradient steps train",
            ),
        )
    ),
    *(
        Rule("readout.member_rows", lambda c: c.readout.member_rows == "under_sampled", needs, met, why)
        for needs, met, why in (
            (
                "readout.members of 2 or more",
                lambda c: c.readout.members > 1,
                "the rows that one member leaves out would be lost (data.balance = 'random_under' does that)",
            ),
            (
                "data.balance = 'none'",
                lambda c: c.data.balance == "none",
                "the rows of each member are balanced, and those of all members need not be",
            ),
            (
                "augment.shifts = 0",
                lambda c: not c.augment.shifts,
                "the rows are drawn without their shifted copies",
            ),
            (
                "loss.class_weights = 'none', or a readout.member_ratio below 1",
                lambda c: c.loss.class_weights == "none" or c.readout.member_ratio < 1,
                "classes with the same number of rows have the same weight",
            ),
        )
    ),
    Rule(
        "readout.keep_sums",
        _keeps_sums,
        _NO_GROUPS,
        lambda c: not _has_groups(c),
        "rows that are added later would be split without regard to the groups",
    ),
    Rule(
        "readout.ridge_criterion",
        lambda c: named_criterion(c.readout.ridge_criterion) is not None,
        "readout.keep_sums = false",
        lambda c: not c.readout.keep_sums,
        "sums of the validation rows give their squared error, but not the answer of each row",
    ),
    Rule(
        "readout.ridge_criterion",
        lambda c: c.readout.ridge_criterion in OF_PROBABILITIES,
        "to be a criterion of classes or scores",
        lambda c: False,
        "the scores of ridge regression are no probabilities while its penalty is chosen",
    ),
    Rule(
        "training.criterion",
        lambda c: named_criterion(c.training.criterion) is not None,
        f"another readout.kind than {_listed(SOLVED)}",
        lambda c: c.readout.trained,
        "a readout that is solved has no epochs (readout.ridge_criterion chooses its penalty)",
    ),
    Rule(
        "readout.without_units",
        lambda c: bool(c.readout.without_units),
        "readout.keep_sums = true",
        _keeps_sums,
        "other readouts are not trained by units",
    ),
    *(
        Rule(
            key,
            lambda c, key=key: _value(c, key) != _value(LossSection(), key.partition(".")[2]),  # type: ignore[misc]
            f"another readout.kind than {_listed(SOLVED)}",
            lambda c: c.readout.trained,
            "ridge regression minimises the squared error (loss.class_weights and label_smoothing have an effect)",
        )
        for key in ("loss.kind", "loss.focal_gamma", "loss.logit_tau", "loss.ldam_margin", "loss.weights_from_epoch")
    ),
    Rule(
        "readout.bands",
        lambda c: c.readout.bands == "separate",
        "reservoir.kind = 'none'",
        lambda c: c.reservoir.kind == "none",
        "the states of a reservoir are not divided into bands",
    ),
    Rule(
        "readout.outputs",
        lambda c: "readout.heads" in readout_choice(c.readout.kind).keys,
        "to be a multiple of readout.heads",
        lambda c: c.readout.outputs % c.readout.heads == 0,
        "each head of a transformer reads an equal share of them",
    ),
    Rule(
        "readout.kind",
        lambda c: c.readout.stepwise,
        _needs_sequence,
        _has_sequence,
        "it reads states step by step, and a single state is not a sequence",
    ),
)

TRAINING = (
    Rule(
        "loss.kind",
        lambda c: loss_choice(c.loss.kind).reads_class_counts,
        "data.balance = 'none', a data.balance_ratio below 1, or data.balance_counts",
        lambda c: c.data.balance == "none" or c.data.balance_ratio < 1 or bool(c.data.balance_counts),
        "it corrects the sizes of the classes of the training rows, which balancing makes the same",
    ),
    Rule(
        "loss.weights_from_epoch",
        lambda c: bool(c.loss.weights_from_epoch),
        "another loss.class_weights than 'none'",
        lambda c: c.loss.class_weights != "none",
        "it says when they begin",
    ),
    Rule(
        "loss.weights_from_epoch",
        lambda c: bool(c.loss.weights_from_epoch),
        "training.epochs above it",
        lambda c: c.training.epochs > c.loss.weights_from_epoch,
        "the last epochs have the weights",
    ),
    Rule(
        "optimizer.nesterov",
        lambda c: c.optimizer.nesterov,
        "optimizer.kind = 'sgd' and an optimizer.momentum above 0",
        lambda c: c.optimizer.kind == "sgd" and c.optimizer.momentum > 0,
        "it is a form of momentum",
    ),
    Rule(
        "schedule.warmup_epochs",
        lambda c: bool(c.schedule.warmup_epochs),
        "schedule.warmup_steps = 0",
        lambda c: not c.schedule.warmup_steps,
        "both set the length of the warm-up",
    ),
    Rule(
        "parallel.deterministic",
        lambda c: c.parallel.deterministic and c.parallel.engine != "torch",
        "parallel.horovod.fusion_mib = 0 and parallel.horovod.cycle_ms = 0",
        lambda c: not (c.parallel.horovod.fusion_mib or c.parallel.horovod.cycle_ms),
        "other groups of gradients add up to other last digits",
    ),
    *(
        Rule(
            "parallel.replicas",
            lambda c: c.parallel.replicas != "synchronised",
            f"{key} = {plain}",
            lambda c, key=key, plain=plain: _value(c, key) == plain,  # type: ignore[misc]
            "each rank trains a network on its own rows to the end",
        )
        for key, plain in (("parallel.local_steps", 1), ("partition.reshuffle_every", 0), ("optimizer.ema", 0))
    ),
    Rule(
        "augment",
        lambda c: c.augment.several_views,
        "another parallel.replicas than 'ensemble'",
        lambda c: c.parallel.replicas != "ensemble",
        "test_flips and test_shift are for one network",
    ),
    *(
        Rule(
            f"training.{name}",
            lambda c, name=name, value=value: getattr(c.training, name) == value,  # type: ignore[misc]
            "parallel.local_steps = 1 and parallel.replicas = 'synchronised'",
            lambda c: not _steps_apart(c),
            why,
        )
        for name, value, why in (
            (
                "precision",
                "fp16",
                "ranks that step by themselves would scale their gradients differently (take 'bf16')",
            ),
            ("on_nan", "skip", "ranks that step by themselves cannot agree on a step to skip"),
        )
    ),
    Rule(
        "loss.teacher",
        lambda c: bool(c.loss.teacher),
        f"another readout.kind than {_listed(SOLVED)}",
        lambda c: c.readout.trained,
        "a solved readout minimises the squared error, and no gradient step imitates a teacher",
    ),
    Rule(
        "loss.teacher",
        lambda c: bool(c.loss.teacher),
        "another loss.kind than 'eq12'",
        lambda c: c.loss.kind != "eq12",
        "the softmax of the scores imitates the teacher's probabilities, and eq. 12 drives the scores to the targets",
    ),
    Rule(
        "training.weight_bits",
        lambda c: c.training.weight_bits != TrainingSection().weight_bits,
        f"another readout.kind than {_listed(SOLVED)}",
        lambda c: c.readout.trained,
        "a solved readout has no forward passes that could round its weights (rcdp compress --bits 8 rounds them)",
    ),
    Rule(
        "training.stop_seconds",
        lambda c: c.training.stop_seconds > 0,
        "a readout.kind that is trained",
        lambda c: c.readout.trained,
        "a solved readout has no epochs after which it could end",
    ),
    Rule(
        "parallel.compression",
        lambda c: c.parallel.compression != "none",
        "parallel.local_steps = 1 and parallel.replicas = 'synchronised'",
        lambda c: not _steps_apart(c),
        "ranks that step by themselves send their weights, which are not compressed, and no gradients",
    ),
    Rule(
        "parallel.batch_statistics",
        lambda c: c.parallel.batch_statistics == "rank",
        "parallel.local_steps = 1 and parallel.replicas = 'synchronised'",
        lambda c: not _steps_apart(c),
        "ranks that step by themselves have their own batch statistics in any case",
    ),
    Rule(
        "training.initial",
        lambda c: bool(c.training.initial),
        "a readout.kind that is trained",
        lambda c: c.readout.trained,
        "a solved readout does not start from weights",
    ),
    Rule(
        "training.initial",
        lambda c: bool(c.training.initial),
        "readout.warm_start = false",
        lambda c: not c.readout.warm_start,
        "both set the first weights",
    ),
    *(
        Rule("pruning", lambda c: c.pruning.active, needs, met, why)
        for needs, met, why in (
            (
                "a readout.kind that is trained",
                lambda c: c.readout.trained,
                "no step of a training removes weights of a solved readout (rcdp compress does)",
            ),
            (
                "training.epochs above pruning.epochs",
                lambda c: c.training.epochs > c.pruning.epochs,
                "the weights that are left are trained after the others are removed",
            ),
            (
                "parallel.local_steps = 1 and parallel.replicas = 'synchronised'",
                lambda c: not _steps_apart(c),
                "ranks that step by themselves would remove different weights",
            ),
            (
                "training.stop_seconds = 0",
                lambda c: not c.training.stop_seconds,
                "the training could end before all weights are removed",
            ),
        )
    ),
    Rule(
        "pruning.method",
        lambda c: c.pruning.method == "l0",
        "pruning.epochs above 0",
        lambda c: c.pruning.epochs > 0,
        "the gates are trained in these epochs",
    ),
    Rule(
        "optimizer.ema",
        lambda c: c.optimizer.ema > 0,
        "pruning.method = 'magnitude'",
        lambda c: c.pruning.method == "magnitude",
        "an average of gated weights does not become zero",
    ),
)

EXTRACTOR = (
    Rule(
        "augment",
        _augments,
        "a trained extractor (extractor.kind)",
        _trained,
        "samples are changed before they reach one",
    ),
    Rule(
        "augment.alternate",
        lambda c: _trained(c) and c.augment.alternate,
        "augment.flip = true",
        lambda c: c.augment.flip,
        "it says how images are mirrored",
    ),
    Rule(
        "extractor.kind",
        lambda c: c.extractor.kind == "pretrained",
        "extractor.model, the model.pt or run directory of a model with a trained extractor",
        lambda c: bool(c.extractor.model),
        "its extractor is frozen",
    ),
    Rule(
        "extractor.patches",
        lambda c: "extractor.patches" in extractor_choice(c.extractor.kind).keys,
        lambda c: f"to be at least extractor.atoms = {c.extractor.atoms}",
        lambda c: c.extractor.patches >= c.extractor.atoms,
        "each atom is the mean of some patches",
    ),
    Rule(
        "extractor.kind",
        _makes_sequences,
        "no reservoir.matrices, and no rows or columns in reservoir.scans",
        lambda c: not c.reservoir.matrices and all(scan in ("forward", "backward") for scan in c.reservoir.scans),
        "the extractor makes the sequences",
    ),
    Rule(
        "extractor.kind",
        _trained,
        f"another readout.kind than {_listed(SOLVED)}",
        lambda c: c.readout.trained,
        "a trained extractor needs a readout that gradients flow through",
    ),
    Rule(
        "extractor.kind",
        _trained,
        "reservoir.noise = 0",
        lambda c: not c.reservoir.noise,
        "gradients do not flow through noise",
    ),
    Rule(
        "extractor.kind",
        _trained,
        "reservoir.kernel = 'auto'",
        lambda c: c.reservoir.kernel in ("auto", "dense-fp32"),
        "gradients flow through float32 states (training.precision = 'bf16' makes products faster)",
    ),
    Rule(
        "extractor.kernel_inputs",
        lambda c: "extractor.kernel_inputs" in extractor_choice(c.extractor.kind).keys,
        "each input once",
        lambda c: len(set(c.extractor.kernel_inputs)) == len(c.extractor.kernel_inputs),
        "features would be repeated",
    ),
    Rule(
        "extractor.kernels",
        lambda c: "extractor.kernels" in extractor_choice(c.extractor.kind).keys,
        lambda c: f"to be {_least_kernels(c)} or more for {len(c.extractor.kernel_inputs)} inputs",
        lambda c: c.extractor.kernels >= _least_kernels(c),
        "each of extractor.kernel_inputs is read by 84 kernels, the first of several by twice as many",
    ),
    Rule(
        "extractor.kind",
        lambda c: c.extractor.joins_features,
        f"readout.kind = {_listed(WHOLE)}",
        lambda c: not c.readout.stepwise,
        "its features are those of whole series, and other readouts read step by step",
    ),
)

SEARCH = (
    Rule(
        "search.evaluation",
        _searches(lambda c: c.search.evaluation == "train"),
        "another readout.kind than 'ridge', or search.evaluation = 'ridge'",
        lambda c: not readout_choice(c.readout.kind).linear,
        "a ridge readout is solved, not trained",
    ),
    Rule(
        "search.evaluation",
        _searches(_function),
        "search.function = 'module:function'",
        lambda c: bool(c.search.function),
        "it calls a function of your own",
    ),
    Rule(
        "search.function",
        _searches(lambda c: bool(c.search.function)),
        "search.evaluation = 'function'",
        _function,
        "other evaluations do not call it",
    ),
    *(
        Rule(
            f"search.{name}",
            _searches(_function),
            f"to be {shown}",
            lambda c, name=name, accepted=accepted: getattr(c.search, name) in accepted,  # type: ignore[misc]
            "search.evaluation = 'function' calls your function on one rank for one candidate",
        )
        for name, accepted, shown in (
            ("candidates_at_once", (0, 1), "0 or 1"),
            ("group_ranks", (0, 1), "0 or 1"),
            ("device", ("auto", "cpu"), "'cpu' or 'auto'"),
        )
    ),
    *(
        Rule(
            key,
            lambda c, key=key, value=value: _value(c, key) == value and c.training.device == "cpu",  # type: ignore[misc]
            "training.device = 'auto' or 'gpu'",
            lambda c: False,
            why,
        )
        for key, value, why in (
            ("training.precision", "fp16", "few CPUs multiply float16"),
            ("training.graph", "on", "CUDA graphs need a GPU"),
            ("parallel.horovod.hierarchical", True, "Horovod sums within a node by NCCL only"),
        )
    ),
    Rule(
        "search.halving",
        _searches(lambda c: c.search.halving > 1),
        "search.folds = 1",
        lambda c: c.search.folds == 1,
        "a part of a fold's rows does not keep the proportions of the classes",
    ),
    Rule(
        "search.improvements",
        _searches(lambda c: bool(c.search.improvements)),
        "search.optimizer = 'mfo'",
        lambda c: c.search.optimizer == "mfo",
        "they change moth-flame",
    ),
    Rule(
        "search.folds",
        _searches(lambda c: c.search.folds > 1 and not _function(c)),
        f"another data.balance than {', '.join(CLEANING)} or a class of your own",
        lambda c: not balancing_choice(c.data.balance).cleans,
        "these may clean the rows before the folds are formed, so that the held-out rows would be easier than others",
    ),
    Rule(
        "search.folds",
        _searches(lambda c: c.search.folds > 1 and not _function(c)),
        "data.balance_ratio instead of data.balance_counts",
        lambda c: not c.data.balance_counts,
        "the counts are those of the whole training part, not of a fold's",
    ),
    Rule(
        "search.fitness",
        _searches(lambda c: c.search.fitness in OF_PROBABILITIES and not _function(c)),
        "search.evaluation = 'train' with a readout that is trained, and another loss than 'eq12'",
        lambda c: c.search.evaluation == "train" and c.readout.trained and c.loss.kind != "eq12",
        "other readouts have scores and no probabilities while candidates are evaluated",
    ),
    Rule(
        "search.candidates_at_once",
        _searches(_at_once),
        "search.evaluation = 'ridge'",
        lambda c: c.search.evaluation == "ridge",
        "only ridge readouts are solved for several candidates in common",
    ),
    Rule(
        "search.candidates_at_once",
        _searches(_at_once),
        "search.group_ranks = 0 or 1",
        lambda c: c.search.group_ranks <= 1,
        "a group of ranks divides each candidate",
    ),
    Rule(
        "search.candidates_at_once",
        _searches(_at_once),
        "a reservoir without noise, layers or scans, with random connections and uniform weights",
        lambda c: not c.reservoir.noise and c.reservoir.is_plain and c.reservoir.kind == "random",
        "candidates share its matrices",
    ),
    *(
        Rule(
            "search.candidates_at_once",
            _searches(lambda c, name=name: _at_once(c) and getattr(c.search.space, name) is not None),  # type: ignore[misc]
            f"no search.space.{name}",
            lambda c: False,
            "candidates in common products have matrices and states of one shape",
        )
        for name in ("state_set", "nodes", "layers", "states")
    ),
)

SELECTION = tuple(
    Rule("search.method", _searches(_selects), needs, met, "it judges sets of reservoir settings")
    for needs, met in (
        ("another search.evaluation than 'function'", lambda c: not _function(c)),
        ("reservoir.kind = 'random'", lambda c: c.reservoir.kind == "random"),
        ("no reservoir.matrices", lambda c: not c.reservoir.matrices),
        ("no search.space.state_set", lambda c: c.search.space.state_set is None),
    )
)

SPACE = (
    Rule(
        "search.space.density",
        _searches(lambda c: c.search.space.density is not None and not _function(c)),
        "another reservoir.topology than 'ring' or 'cycle-jumps'",
        lambda c: c.reservoir.topology not in ("ring", "cycle-jumps"),
        "candidates would not differ by it",
    ),
    *(
        Rule(
            f"search.space.{name}",
            _searches(lambda c, name=name: getattr(c.search.space, name) is not None and not _function(c)),  # type: ignore[misc]
            "reservoir.matrices = ''",
            lambda c: not c.reservoir.matrices,
            "your own matrices are taken as they are, and candidates would not differ by it",
        )
        for name in (
            "density",
            "spectral_radius",
            "weight_scale",
            "input_scaling",
            "bias_scaling",
            "nodes",
            "layers",
        )
    ),
    Rule(
        "search.space.states",
        _searches(lambda c: c.search.space.states is not None and not _function(c)),
        "'states' in reservoir.reduction, and reservoir.steps = []",
        lambda c: "states" in c.reservoir.reduction and not c.reservoir.steps,
        "candidates would not differ by it",
    ),
    *(
        Rule(
            f"search.space.{name}",
            _searches(
                lambda c, name=name: getattr(c.search.space, name) is not None and c.search.evaluation == "train"  # type: ignore[misc]
            ),
            f"readout.kind = {_listed(READOUTS.users_of(key))}",
            lambda c, key=key: key in readout_choice(c.readout.kind).keys,  # type: ignore[misc]
            "candidates would not differ by it",
        )
        for name, key in DIMENSION_KEYS.items()
        if key.startswith("readout.")
    ),
    Rule(
        "search.space.relu_slope",
        _searches(lambda c: c.search.space.relu_slope is not None and c.search.evaluation == "train"),
        "readout.activation = 'relu', or 'relu' among the choices of search.space.readout_activation",
        lambda c: "relu" in _values_of(c.search.space.readout_activation, c.readout.activation),
        "candidates would not differ by it",
    ),
    Rule(
        "search.space.outputs",
        _searches(
            lambda c: c.search.space.outputs is not None and "readout.heads" in readout_choice(c.readout.kind).keys
        ),
        "choices that are multiples of readout.heads",
        _heads_divide_outputs,
        "each head of a transformer reads an equal share of them",
    ),
    *(
        Rule(
            f"search.space.{name}",
            _searches(
                lambda c, name=name: getattr(c.search.space, name) is not None and c.search.evaluation == "train"  # type: ignore[misc]
            ),
            f"another readout.kind than {_listed(SOLVED)}",
            lambda c: c.readout.trained,
            "no gradient step solves it, and candidates would not differ by it",
        )
        for name in ("learning_rate", "weight_decay", "batch")
    ),
    Rule(
        "search.space.batch",
        _searches(lambda c: c.search.space.batch is not None),
        "training.global_batch = 0",
        lambda c: not c.training.global_batch,
        "the training would not use the batch that the search found",
    ),
    Rule(
        "search.space.readout_activation",
        _searches(lambda c: c.search.space.readout_activation is not None),
        "readout.warm_start = false",
        lambda c: not c.readout.warm_start,
        "only a network of ReLU layers can start from the ridge readout",
    ),
)

PREDICTION = (
    Rule(
        "prediction.thresholds",
        lambda c: bool(c.prediction.thresholds),
        "prediction.costs = []",
        lambda c: not c.prediction.costs,
        "both decide which class is answered",
    ),
)

COMPARE = (
    Rule(
        "compare.folds",
        lambda c: c.compare.folds > 0,
        "compare.seeds = []",
        lambda c: not c.compare.seeds,
        "each fold is one repetition, with run.seed",
    ),
)

RULES: tuple[Rule, ...] = (
    *DATA,
    *RESERVOIR,
    *READOUT,
    *TRAINING,
    *EXTRACTOR,
    *SEARCH,
    *SELECTION,
    *SPACE,
    *PREDICTION,
    *COMPARE,
)


def contradictions(config: Config) -> Iterator[str]:
    """Yield what is wrong between the settings of a configuration, a sentence for each rule that is broken."""
    for rule in RULES:
        problem = rule.problem(config)
        if problem is not None:
            yield problem
