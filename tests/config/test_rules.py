"""What settings demand of one another: each rule refuses a configuration when it is loaded, and says what to set."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import parse_config
from rcdp_hpc.config.rules import RULES
from rcdp_hpc.errors import InputError

BOUNDS = {"low": 0.1, "high": 0.5}
INTEGERS = {"low": 8, "high": 16}
FUNCTIONS = {"choices": ["relu", "tanh"]}
FUNCTION = {"search.evaluation": "function", "search.function": "mine:judge"}
CONVOLUTION = {"extractor.kind": "convolution"}
KERNELS = {"extractor.kind": "kernels"}
SUMS = {"readout.kind": "ridge", "data.balance": "none", "readout.keep_sums": True}
UNITS = {"data.unit_pattern": "a", "data.balance": "none"}
MEMBERS = {
    "readout.kind": "ridge", "readout.members": 3, "readout.member_rows": "under_sampled", "data.balance": "none",
}  # fmt: skip
AT_ONCE = {"search.candidates_at_once": 2}

# For every rule settings that break it, and settings that mend them.
CASES = [
    ("data.missing_mask = true needs data.missing = 'mean' or 'median' or 'constant'", {"data.missing_mask": True},
     {"data.missing": "median"}),
    ("data.missing_mask = true needs reservoir.series_scaling = 'none'",
     {"data.missing_mask": True, "data.missing": "mean", "reservoir.series_scaling": "standard"},
     {"reservoir.series_scaling": "none"}),
    ("data.class_keep_counts = [3, 4] needs data.class_keep_fractions = []",
     {"data.class_keep_counts": [3, 4], "data.class_keep_fractions": [0.5, 1]}, {"data.class_keep_fractions": []}),
    ("data.unit_pattern = '^[^_]+' needs data.balance = 'none'", {"data.unit_pattern": "^[^_]+"},
     {"data.balance": "none"}),
    ("data.unit_pattern = 'a' needs data.folds = 0", {**UNITS, "data.folds": 3}, {"data.folds": 0}),
    ("data.unit_pattern = 'a' needs data.class_keep_fractions = []", {**UNITS, "data.class_keep_fractions": [0.5]},
     {"data.class_keep_fractions": []}),
    ("data.unit_pattern = 'a' needs data.class_keep_counts = []", {**UNITS, "data.class_keep_counts": [5]},
     {"data.class_keep_counts": []}),
    ("data.unit_pattern = 'a' needs data.reserve = 0", {**UNITS, "data.reserve": 0.1}, {"data.reserve": 0.0}),
    ("data.unit_pattern = 'a' needs no data.group_column, data.group_name or data.group_pattern",
     {**UNITS, "data.group_name": "site"}, {"data.group_name": ""}),
    ("data.group_column = 'site' needs data.group_name = ''",
     {"data.group_column": "site", "data.group_name": "site"}, {"data.group_name": ""}),
    ("data.group_column = 'site' needs data.group_pattern = ''",
     {"data.group_column": "site", "data.group_pattern": "a"}, {"data.group_pattern": ""}),
    ("data.group_name = 'site' needs data.group_pattern = ''",
     {"data.group_name": "site", "data.group_pattern": "a"}, {"data.group_name": ""}),
    ("data.group_column = 'label' needs another column than data.label_column", {"data.group_column": "label"},
     {"data.group_column": "site"}),
    ("readout.ridge_selection = 'left_out' needs no data.group_column, data.group_name or data.group_pattern",
     {"readout.ridge_selection": "left_out", "data.group_column": "site"}, {"readout.ridge_selection": "auto"}),
    ("readout.keep_sums = true needs no data.group_column, data.group_name or data.group_pattern",
     {**SUMS, "data.group_column": "site"}, {"data.group_column": ""}),
    ("search.space.spectral_radius needs reservoir.scaling = 'spectral_radius'",
     {"search.space.spectral_radius": BOUNDS, "reservoir.scaling": "weight_scale"},
     {"reservoir.scaling": "spectral_radius"}),
    ("search.space.weight_scale needs reservoir.scaling = 'weight_scale'",
     {"search.space.weight_scale": BOUNDS}, {"reservoir.scaling": "weight_scale"}),
    ("readout.warm_start = true needs training.baseline = true",
     {"readout.warm_start": True, "training.baseline": False}, {"training.baseline": True}),
    ("readout.warm_start = true needs readout.kind = 'network'",
     {"readout.warm_start": True, "readout.kind": "lstm", "reservoir.reduction": ["all"]},
     {"readout.kind": "network"}),
    ("readout.warm_start = true needs an extractor that is not trained",
     {"readout.warm_start": True, "search.generations": 0, **CONVOLUTION}, {"extractor.kind": "none"}),
    ("augment.shifts = 1 needs readout.kind = 'ridge'", {"augment.shifts": 1}, {"readout.kind": "ridge"}),
    ("augment.shifts = 1 needs readout.ridge_selection = 'validation' or 'auto'",
     {"augment.shifts": 1, "readout.kind": "ridge", "readout.ridge_selection": "left_out"},
     {"readout.ridge_selection": "auto"}),
    ("loss.kind = 'eq12' needs another readout.kind than 'ridge'",
     {"loss.kind": "eq12", "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("loss.focal_gamma = 1.0 needs another readout.kind than 'ridge'",
     {"loss.focal_gamma": 1.0, "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("loss.logit_tau = 2.0 needs another readout.kind than 'ridge'",
     {"loss.logit_tau": 2.0, "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("loss.ldam_margin = 1.0 needs another readout.kind than 'ridge'",
     {"loss.ldam_margin": 1.0, "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("loss.weights_from_epoch = 1 needs another readout.kind than 'ridge'",
     {"loss.weights_from_epoch": 1, "loss.class_weights": "balanced", "readout.kind": "ridge"},
     {"readout.kind": "network"}),
    ("loss.weights_from_epoch = 1 needs another loss.class_weights than 'none'", {"loss.weights_from_epoch": 1},
     {"loss.class_weights": "effective"}),
    ("loss.weights_from_epoch = 3 needs training.epochs above it",
     {"loss.weights_from_epoch": 3, "loss.class_weights": "balanced", "training.epochs": 3}, {"training.epochs": 4}),
    ("loss.kind = 'ldam' needs data.balance = 'none', a data.balance_ratio below 1", {"loss.kind": "ldam"},
     {"data.balance_ratio": 0.5}),
    ("loss.teacher = ['runs/large'] needs another readout.kind than 'ridge'",
     {"loss.teacher": "runs/large", "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("loss.teacher = ['runs/large'] needs another loss.kind than 'eq12'",
     {"loss.teacher": "runs/large", "loss.kind": "eq12"}, {"loss.kind": "focal"}),
    ("readout.members = 3 needs readout.kind = 'ridge' or 'elm'", {"readout.members": 3}, {"readout.kind": "elm"}),
    ("readout.members = 3 needs readout.member_rows = 'under_sampled', or readout.kind = 'elm'",
     {**MEMBERS, "readout.member_rows": "all"}, {"readout.kind": "elm"}),
    ("readout.members = 3 needs readout.keep_sums = false", {**MEMBERS, "readout.keep_sums": True},
     {"readout.keep_sums": False}),
    ("readout.members = 3 needs parallel.replicas = 'synchronised'", {**MEMBERS, "parallel.replicas": "ensemble"},
     {"parallel.replicas": "synchronised"}),
    ("readout.member_rows = 'under_sampled' needs readout.members of 2 or more", {**MEMBERS, "readout.members": 1},
     {"readout.members": 2}),
    ("readout.member_rows = 'under_sampled' needs data.balance = 'none'", {**MEMBERS, "data.balance": "smote"},
     {"data.balance": "none"}),
    ("readout.member_rows = 'under_sampled' needs augment.shifts = 0", {**MEMBERS, "augment.shifts": 1},
     {"augment.shifts": 0}),
    ("readout.member_rows = 'under_sampled' needs loss.class_weights = 'none', or a readout.member_ratio below 1",
     {**MEMBERS, "loss.class_weights": "balanced"}, {"readout.member_ratio": 0.5}),
    ("training.weight_bits = 8 needs another readout.kind than 'ridge'",
     {"training.weight_bits": 8, "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("readout.keep_sums = true needs readout.kind = 'ridge'",
     {"readout.keep_sums": True, "data.balance": "none"}, {"readout.kind": "ridge"}),
    ("readout.keep_sums = true needs data.balance = 'none'",
     {"readout.keep_sums": True, "readout.kind": "ridge"}, {"data.balance": "none"}),
    ("readout.ridge_criterion = 'mcc' needs readout.keep_sums = false", {**SUMS, "readout.ridge_criterion": "mcc"},
     {"readout.ridge_criterion": "squared_error"}),
    ("readout.ridge_criterion = 'ece' needs to be a criterion of classes or scores",
     {"readout.ridge_criterion": "ece"}, {"readout.ridge_criterion": "macro_pr_auc"}),
    ("training.criterion = 'recall:cat' needs another readout.kind than 'ridge'",
     {"readout.kind": "ridge", "training.criterion": "recall:cat"}, {"training.criterion": "loss"}),
    ("readout.keep_sums = true needs readout.ridge_selection = 'validation' or 'auto'",
     {**SUMS, "readout.ridge_selection": "left_out"}, {"readout.ridge_selection": "auto"}),
    ("readout.without_units = ['site-2'] needs readout.keep_sums = true",
     {"readout.without_units": ["site-2"], "readout.kind": "ridge", "data.balance": "none"},
     {"readout.keep_sums": True}),
    ("readout.outputs = 10 needs to be a multiple of readout.heads",
     {"readout.outputs": 10, "readout.heads": 4, "readout.kind": "transformer", "reservoir.reduction": ["all"]},
     {"readout.heads": 5}),
    ("readout.kind = 'lstm' needs reservoir.reduction = 'all'",
     {"readout.kind": "lstm"}, {"reservoir.states": 2}),
    ("optimizer.nesterov = true needs optimizer.kind = 'sgd'",
     {"optimizer.nesterov": True, "optimizer.kind": "sgd", "optimizer.momentum": 0.0}, {"optimizer.momentum": 0.9}),
    ("schedule.warmup_epochs = 2.0 needs schedule.warmup_steps = 0",
     {"schedule.warmup_epochs": 2, "schedule.warmup_steps": 10}, {"schedule.warmup_steps": 0}),
    ("parallel.deterministic = true needs parallel.horovod.fusion_mib = 0 and parallel.horovod.cycle_ms = 0",
     {"parallel.deterministic": True, "parallel.horovod.fusion_mib": 4}, {"parallel.deterministic": False}),
    ("parallel.replicas = 'averaged' needs parallel.local_steps = 1",
     {"parallel.replicas": "averaged", "parallel.local_steps": 2}, {"parallel.local_steps": 1}),
    ("parallel.replicas = 'averaged' needs partition.reshuffle_every = 0",
     {"parallel.replicas": "averaged", "partition.reshuffle_every": 2}, {"partition.reshuffle_every": 0}),
    ("parallel.replicas = 'averaged' needs optimizer.ema = 0",
     {"parallel.replicas": "averaged", "optimizer.ema": 0.5}, {"optimizer.ema": 0.0}),
    ("augment needs another parallel.replicas than 'ensemble'",
     {"parallel.replicas": "ensemble", "augment.test_flips": True, "search.generations": 0, **CONVOLUTION},
     {"parallel.replicas": "synchronised"}),
    ("training.precision = 'fp16' needs parallel.local_steps = 1 and parallel.replicas = 'synchronised'",
     {"training.precision": "fp16", "parallel.local_steps": 2}, {"training.precision": "bf16"}),
    ("training.on_nan = 'skip' needs parallel.local_steps = 1", {"training.on_nan": "skip", "parallel.local_steps": 2},
     {"parallel.local_steps": 1}),
    ("parallel.compression = 'fp16' needs parallel.local_steps = 1",
     {"parallel.compression": "fp16", "parallel.replicas": "averaged"}, {"parallel.replicas": "synchronised"}),
    ("parallel.batch_statistics = 'rank' needs parallel.local_steps = 1",
     {"parallel.batch_statistics": "rank", "parallel.local_steps": 2}, {"parallel.local_steps": 1}),
    ("augment needs a trained extractor", {"augment.flip": True},
     {"search.generations": 0, **CONVOLUTION}),
    ("augment.alternate = true needs augment.flip = true",
     {"augment.alternate": True, "augment.crop": 1, "search.generations": 0, **CONVOLUTION},
     {"augment.flip": True}),
    ("extractor.kind = 'pretrained' needs extractor.model",
     {"extractor.kind": "pretrained"}, {"extractor.model": "runs/cifar10"}),
    ("extractor.patches = 10 needs to be at least extractor.atoms = 256",
     {"extractor.kind": "dictionary", "extractor.patches": 10, "search.generations": 0},
     {"extractor.atoms": 10}),
    ("extractor.kind = 'dictionary' needs no reservoir.matrices",
     {"extractor.kind": "dictionary", "search.generations": 0, "reservoir.matrices": "own.npz"},
     {"reservoir.matrices": ""}),
    ("extractor.kind = 'convolution' needs another readout.kind than 'ridge'",
     {"readout.kind": "ridge", "search.generations": 0, **CONVOLUTION}, {"readout.kind": "network"}),
    ("extractor.kind = 'convolution' needs reservoir.noise = 0",
     {"reservoir.noise": 0.1, "search.generations": 0, **CONVOLUTION}, {"reservoir.noise": 0.0}),
    ("extractor.kind = 'convolution' needs reservoir.kernel = 'auto'",
     {"reservoir.kernel": "sparse-fp32", "search.generations": 0, **CONVOLUTION}, {"reservoir.kernel": "auto"}),
    ("extractor.kernel_inputs = ['values', 'values'] needs each input once",
     {"extractor.kernel_inputs": ["values", "values"], **KERNELS},
     {"extractor.kernel_inputs": ["values"]}),
    ("extractor.kernels = 200 needs to be 336 or more for 3 inputs",
     {"extractor.kernels": 200, **KERNELS}, {"extractor.kernels": 336}),
    ("extractor.kind = 'kernels' needs readout.kind = 'network', 'ridge' or 'elm'",
     {"readout.kind": "gru", "reservoir.reduction": ["all"], **KERNELS}, {"readout.kind": "ridge"}),
    ("search.evaluation = 'train' needs another readout.kind than 'ridge'",
     {"search.evaluation": "train", "readout.kind": "ridge"}, {"search.evaluation": "ridge"}),
    ("search.evaluation = 'function' needs search.function = 'module:function'",
     {"search.evaluation": "function"}, {"search.function": "mine:judge"}),
    ("search.function = 'mine:judge' needs search.evaluation = 'function'",
     {"search.function": "mine:judge"}, {"search.evaluation": "function"}),
    ("search.fitness = 'brier' needs search.evaluation = 'train' with a readout that is trained",
     {"search.fitness": "brier"}, {"search.evaluation": "train"}),
    ("search.candidates_at_once = 2 needs to be 0 or 1", {**FUNCTION, **AT_ONCE}, {"search.candidates_at_once": 1}),
    ("search.group_ranks = 2 needs to be 0 or 1", {**FUNCTION, "search.group_ranks": 2}, {"search.group_ranks": 1}),
    ("search.device = 'gpu' needs to be 'cpu'", {**FUNCTION, "search.device": "gpu"}, {"search.device": "cpu"}),
    *(
        (f"{key} = {shown} needs training.device = 'auto' or 'gpu'", {key: value, "training.device": "cpu"},
         {"training.device": "auto"})
        for key, value, shown in (("training.precision", "fp16", "'fp16'"), ("training.graph", "on", "'on'"),
                                  ("parallel.horovod.hierarchical", True, "true"))
    ),
    ("search.halving = 2 needs search.folds = 1", {"search.halving": 2, "search.folds": 3}, {"search.folds": 1}),
    ("search.improvements = ['levy'] needs search.optimizer = 'mfo'",
     {"search.improvements": ["levy"], "search.optimizer": "ga"}, {"search.optimizer": "mfo"}),
    ("search.folds = 3 needs another data.balance than 'smote_tomek', 'smote_enn' or a class of your own",
     {"search.folds": 3, "data.balance": "smote_enn"}, {"data.balance": "smote"}),
    ("search.folds = 3 needs data.balance_ratio instead of data.balance_counts",
     {"search.folds": 3, "data.balance_counts": [60, 60]}, {"data.balance_counts": []}),
    ("search.candidates_at_once = 2 needs search.evaluation = 'ridge'",
     {**AT_ONCE, "search.evaluation": "train"}, {"search.evaluation": "ridge"}),
    ("search.candidates_at_once = 2 needs search.group_ranks = 0 or 1",
     {**AT_ONCE, "search.group_ranks": 2}, {"search.group_ranks": 0}),
    ("search.candidates_at_once = 2 needs a reservoir without noise, layers or scans",
     {**AT_ONCE, "reservoir.layers": 2}, {"reservoir.layers": 1}),
    ("search.method = 'select' needs another search.evaluation than 'function'",
     {"search.method": "select", **FUNCTION}, {"search.method": "optimizer"}),
    ("search.method = 'select' needs reservoir.kind = 'random'",
     {"search.method": "select", "reservoir.kind": "none"}, {"reservoir.kind": "random"}),
    ("search.method = 'select' needs no reservoir.matrices",
     {"search.method": "select", "reservoir.matrices": "own.npz"}, {"reservoir.matrices": ""}),
    ("search.method = 'select' needs no search.space.state_set",
     {"search.method": "select", "search.space.state_set": {"choices": ["values/spread", "values/long"]}},
     {"search.method": "optimizer"}),
    ("search.space.density needs another reservoir.topology than 'ring' or 'cycle-jumps'",
     {"search.space.density": BOUNDS, "reservoir.topology": "ring"}, {"reservoir.topology": "small-world"}),
    *[
        (f"search.space.{name} needs reservoir.matrices = ''",
         {f"search.space.{name}": BOUNDS, "reservoir.matrices": "own.npz", **scaling}, {"reservoir.matrices": ""})
        for name, scaling in (
            ("density", {}), ("spectral_radius", {}), ("weight_scale", {"reservoir.scaling": "weight_scale"}),
            ("input_scaling", {}), ("bias_scaling", {}),
        )
    ],
    *[
        (f"search.space.{name} needs reservoir.matrices = ''",
         {f"search.space.{name}": {"low": 2, "high": 9}, "reservoir.matrices": "own.npz"}, {"reservoir.matrices": ""})
        for name in ("nodes", "layers")
    ],
    ("search.space.states needs 'states' in reservoir.reduction, and reservoir.steps = []",
     {"search.space.states": {"low": 2, "high": 9}, "reservoir.reduction": ["mean"]},
     {"reservoir.reduction": ["states", "mean"]}),
    ("search.space.relu_slope needs readout.kind = 'network'",
     {"search.space.relu_slope": BOUNDS, "search.evaluation": "train", "readout.kind": "lstm",
      "reservoir.reduction": ["all"]}, {"readout.kind": "network"}),
    *[
        (f"search.space.{name} needs readout.kind = 'network',{elm} 'lstm', 'gru', 'transformer' or 'convolution'",
         {f"search.space.{name}": bounds, "search.evaluation": "train", "readout.kind": "mine:Readout"},
         {"readout.kind": "network"})
        for name, bounds, elm in (
            ("hidden", INTEGERS, " 'elm',"), ("outputs", INTEGERS, ""), ("readout_layers", INTEGERS, " 'elm',"),
            ("dropout", BOUNDS, ""),
        )
    ],
    ("search.space.readout_activation needs readout.kind = 'network'",
     {"search.space.readout_activation": FUNCTIONS, "search.evaluation": "train", "readout.kind": "mine:Readout"},
     {"readout.kind": "network"}),
    ("training.stop_seconds = 5.0 needs a readout.kind that is trained",
     {"training.stop_seconds": 5, "readout.kind": "ridge"}, {"training.stop_seconds": 0.0}),
    ("prediction.thresholds = [0.5, 0.5] needs prediction.costs = []",
     {"prediction.thresholds": [0.5, 0.5], "prediction.costs": [[1], [2]]}, {"prediction.costs": []}),
    ("compare.folds = 3 needs compare.seeds = []", {"compare.folds": 3, "compare.seeds": [1]}, {"compare.seeds": []}),
    ("search.space.readout_activation needs readout.warm_start = false",
     {"search.space.readout_activation": FUNCTIONS, "search.evaluation": "train", "readout.warm_start": True},
     {"readout.warm_start": False}),
    ("search.space.relu_slope needs readout.activation = 'relu', or 'relu' among the choices",
     {"search.space.relu_slope": BOUNDS, "search.evaluation": "train", "readout.activation": "tanh"},
     {"search.space.readout_activation": FUNCTIONS}),
    ("search.space.outputs needs choices that are multiples of readout.heads",
     {"search.space.outputs": INTEGERS, "search.evaluation": "train", "readout.kind": "transformer",
      "reservoir.reduction": ["all"]}, {"search.space.outputs": {"choices": [8, 16]}}),
    *[
        (f"search.space.{name} needs another readout.kind than 'ridge' or 'elm'",
         {f"search.space.{name}": bounds, "search.evaluation": "train", "readout.kind": "elm"},
         {"readout.kind": "network"})
        for name, bounds in (("learning_rate", BOUNDS), ("weight_decay", BOUNDS), ("batch", INTEGERS))
    ],
    ("search.space.elm_penalty needs readout.kind = 'elm'",
     {"search.space.elm_penalty": BOUNDS, "search.evaluation": "train"}, {"readout.kind": "elm"}),
    ("readout.bands = 'separate' needs reservoir.kind = 'none'",
     {"readout.bands": "separate", "readout.kind": "elm", "search.generations": 0}, {"reservoir.kind": "none"}),
    ("search.space.batch needs training.global_batch = 0",
     {"search.space.batch": INTEGERS, "search.evaluation": "train", "training.global_batch": 64},
     {"training.global_batch": 0}),
    *[
        (f"search.candidates_at_once = 2 needs no search.space.{name}",
         {**AT_ONCE, f"search.space.{name}": bounds}, {"search.candidates_at_once": 1})
        for name, bounds in (
            ("nodes", INTEGERS), ("layers", INTEGERS), ("states", INTEGERS),
            ("state_set", {"choices": ["values/spread", "values/long"]}),
        )
    ],
    ("readout.warm_start = true needs readout.activation = 'relu'",
     {"readout.warm_start": True, "readout.activation": "tanh"}, {"readout.activation": "relu"}),
    ("training.initial = 'run' needs a readout.kind that is trained",
     {"training.initial": "run", "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("training.initial = 'run' needs readout.warm_start = false",
     {"training.initial": "run", "readout.warm_start": True}, {"readout.warm_start": False}),
    ("pruning needs a readout.kind that is trained",
     {"pruning.keep": 0.5, "readout.kind": "ridge"}, {"readout.kind": "network"}),
    ("pruning needs training.epochs above pruning.epochs",
     {"pruning.keep": 0.5, "training.epochs": 5}, {"pruning.epochs": 4}),
    ("pruning needs parallel.local_steps = 1 and parallel.replicas = 'synchronised'",
     {"pruning.method": "l0", "parallel.local_steps": 2}, {"parallel.local_steps": 1}),
    ("pruning needs training.stop_seconds = 0",
     {"pruning.keep": 0.5, "training.stop_seconds": 60}, {"pruning.keep": 1}),
    ("pruning.method = 'l0' needs pruning.epochs above 0",
     {"pruning.method": "l0", "pruning.epochs": 0}, {"pruning.epochs": 1}),
    ("optimizer.ema = 0.9 needs pruning.method = 'magnitude'",
     {"optimizer.ema": 0.9, "pruning.method": "l0"}, {"pruning.method": "magnitude"}),
]  # fmt: skip


def tree(settings: dict) -> dict:
    root: dict = {}
    for key, value in settings.items():
        *sections, name = key.split(".")
        node = root
        for section in sections:
            node = node.setdefault(section, {})
        node[name] = value
    return root


@pytest.mark.parametrize(("message", "broken", "mended"), CASES, ids=[case[0] for case in CASES])
def test_a_contradiction_is_refused_when_the_configuration_is_loaded(message, broken, mended):
    with pytest.raises(InputError) as error:
        parse_config(tree(broken), "(of a test)")
    assert message in str(error.value)
    parse_config(tree(broken | mended), "(of a test)")


def test_every_rule_has_a_case(monkeypatch):
    broken_rules: set[int] = set()

    def note(config):
        broken_rules.update(number for number, rule in enumerate(RULES) if rule.problem(config))
        return []

    monkeypatch.setattr("rcdp_hpc.config.root.contradictions", note)
    for _, broken, _ in CASES:
        parse_config(tree(broken), "(of a test)")
    assert len(RULES) == len(CASES)
    assert broken_rules == set(range(len(RULES)))


def test_several_contradictions_are_reported_together():
    settings = {"search.halving": 2, "search.folds": 3, "readout.warm_start": True, "training.baseline": False}
    with pytest.raises(InputError, match=r"readout\.warm_start = true needs .*; search\.halving = 2 needs"):
        parse_config(tree(settings), "(of a test)")


def test_what_is_not_searched_contradicts_nothing():
    parse_config(tree({"search.halving": 2, "search.folds": 3, "search.generations": 0}), "(of a test)")
    parse_config(tree({"search.space.density": BOUNDS, "reservoir.topology": "ring", "search.generations": 0}), "here")
