"""What settings demand of one another: each rule refuses a configuration when it is loaded, and says what to set."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import parse_config
from rcdp_hpc.config.rules import RULES
from rcdp_hpc.errors import InputError

BOUNDS = {"low": 0.1, "high": 0.5}
FUNCTION = {"search.evaluation": "function", "search.function": "mine:judge"}
CONVOLUTION = {"training.extractor.kind": "convolution"}
KERNELS = {"training.extractor.kind": "kernels"}
AT_ONCE = {"search.candidates_at_once": 2}

# For every rule settings that break it, and settings that mend them.
CASES = [
    ("search.space.spectral_radius needs reservoir.scaling = 'spectral_radius'",
     {"search.space.spectral_radius": BOUNDS, "reservoir.scaling": "weight_scale"},
     {"reservoir.scaling": "spectral_radius"}),
    ("search.space.weight_scale needs reservoir.scaling = 'weight_scale'",
     {"search.space.weight_scale": BOUNDS}, {"reservoir.scaling": "weight_scale"}),
    ("training.warm_start = true needs training.baseline = true",
     {"training.warm_start": True, "training.baseline": False}, {"training.baseline": True}),
    ("training.warm_start = true needs training.readout = 'network'",
     {"training.warm_start": True, "training.readout": "lstm", "reservoir.reduction": ["all"]},
     {"training.readout": "network"}),
    ("training.warm_start = true needs an extractor that is not trained",
     {"training.warm_start": True, "search.generations": 0, **CONVOLUTION}, {"training.extractor.kind": "none"}),
    ("training.shifts = 1 needs training.readout = 'ridge'", {"training.shifts": 1}, {"training.readout": "ridge"}),
    ("training.shifts = 1 needs training.ridge_selection = 'validation' or 'auto'",
     {"training.shifts": 1, "training.readout": "ridge", "training.ridge_selection": "left_out"},
     {"training.ridge_selection": "auto"}),
    ("training.loss = 'eq12' needs another training.readout than 'ridge'",
     {"training.loss": "eq12", "training.readout": "ridge"}, {"training.readout": "network"}),
    ("training.focal_gamma = 1.0 needs another training.readout than 'ridge'",
     {"training.focal_gamma": 1.0, "training.readout": "ridge"}, {"training.readout": "network"}),
    ("training.outputs = 10 needs to be a multiple of training.heads",
     {"training.outputs": 10, "training.heads": 4, "training.readout": "transformer", "reservoir.reduction": ["all"]},
     {"training.heads": 5}),
    ("training.readout = 'lstm' needs reservoir.reduction = 'all'",
     {"training.readout": "lstm"}, {"reservoir.states": 2}),
    ("training.nesterov = true needs training.optimizer = 'sgd'",
     {"training.nesterov": True, "training.optimizer": "sgd", "training.momentum": 0.0}, {"training.momentum": 0.9}),
    ("training.warmup_epochs = 2.0 needs training.warmup_steps = 0",
     {"training.warmup_epochs": 2, "training.warmup_steps": 10}, {"training.warmup_steps": 0}),
    ("training.deterministic = true needs training.fusion_mib = 0 and training.cycle_ms = 0",
     {"training.deterministic": True, "training.fusion_mib": 4}, {"training.deterministic": False}),
    ("training.slices = 'averaged' needs training.local_steps = 1",
     {"training.slices": "averaged", "training.local_steps": 2}, {"training.local_steps": 1}),
    ("training.slices = 'averaged' needs training.recut_epochs = 0",
     {"training.slices": "averaged", "training.recut_epochs": 2}, {"training.recut_epochs": 0}),
    ("training.slices = 'averaged' needs training.ema = 0",
     {"training.slices": "averaged", "training.ema": 0.5}, {"training.ema": 0.0}),
    ("training.augment needs another training.slices than 'ensemble'",
     {"training.slices": "ensemble", "training.augment.test_flips": True, "search.generations": 0, **CONVOLUTION},
     {"training.slices": "together"}),
    ("training.precision = 'fp16' needs training.local_steps = 1 and training.slices = 'together'",
     {"training.precision": "fp16", "training.local_steps": 2}, {"training.precision": "bf16"}),
    ("training.on_nan = 'skip' needs training.local_steps = 1", {"training.on_nan": "skip", "training.local_steps": 2},
     {"training.local_steps": 1}),
    ("training.compression = 'fp16' needs training.local_steps = 1",
     {"training.compression": "fp16", "training.slices": "averaged"}, {"training.slices": "together"}),
    ("training.augment needs a trained extractor", {"training.augment.flip": True},
     {"search.generations": 0, **CONVOLUTION}),
    ("training.augment.alternate = true needs training.augment.flip = true",
     {"training.augment.alternate": True, "training.augment.crop": 1, "search.generations": 0, **CONVOLUTION},
     {"training.augment.flip": True}),
    ("training.extractor.kind = 'dictionary' needs search.generations = 0",
     {"training.extractor.kind": "dictionary", "search.generations": 3}, {"search.generations": 0}),
    ("training.extractor.patches = 10 needs to be at least training.extractor.atoms = 256",
     {"training.extractor.kind": "dictionary", "training.extractor.patches": 10, "search.generations": 0},
     {"training.extractor.atoms": 10}),
    ("training.extractor.kind = 'dictionary' needs no reservoir.matrices",
     {"training.extractor.kind": "dictionary", "search.generations": 0, "reservoir.matrices": "own.npz"},
     {"reservoir.matrices": ""}),
    ("training.extractor.kind = 'convolution' needs another training.readout than 'ridge'",
     {"training.readout": "ridge", "search.generations": 0, **CONVOLUTION}, {"training.readout": "network"}),
    ("training.extractor.kind = 'convolution' needs reservoir.noise = 0",
     {"reservoir.noise": 0.1, "search.generations": 0, **CONVOLUTION}, {"reservoir.noise": 0.0}),
    ("training.extractor.kind = 'convolution' needs reservoir.kernel = 'auto'",
     {"reservoir.kernel": "sparse-fp32", "search.generations": 0, **CONVOLUTION}, {"reservoir.kernel": "auto"}),
    ("training.extractor.kernel_inputs = ['values', 'values'] needs each input once",
     {"training.extractor.kernel_inputs": ["values", "values"], **KERNELS},
     {"training.extractor.kernel_inputs": ["values"]}),
    ("training.extractor.kernels = 200 needs to be 336 or more for 3 inputs",
     {"training.extractor.kernels": 200, **KERNELS}, {"training.extractor.kernels": 336}),
    ("training.extractor.kind = 'kernels' needs training.readout = 'ridge' or 'network'",
     {"training.readout": "gru", "reservoir.reduction": ["all"], **KERNELS}, {"training.readout": "ridge"}),
    ("search.evaluation = 'train' needs another training.readout than 'ridge'",
     {"search.evaluation": "train", "training.readout": "ridge"}, {"search.evaluation": "ridge"}),
    ("search.evaluation = 'function' needs search.function = 'module:function'",
     {"search.evaluation": "function"}, {"search.function": "mine:judge"}),
    ("search.function = 'mine:judge' needs search.evaluation = 'function'",
     {"search.function": "mine:judge"}, {"search.evaluation": "function"}),
    ("search.candidates_at_once = 2 needs to be 1", {**FUNCTION, **AT_ONCE}, {"search.candidates_at_once": 1}),
    ("search.group_ranks = 2 needs to be 0 or 1", {**FUNCTION, "search.group_ranks": 2}, {"search.group_ranks": 1}),
    ("search.device = 'gpu' needs to be 'cpu'", {**FUNCTION, "search.device": "gpu"}, {"search.device": "cpu"}),
    ("search.halving = 2 needs search.folds = 1", {"search.halving": 2, "search.folds": 3}, {"search.folds": 1}),
    ("search.improvements = ['levy'] needs search.optimizer = 'mfo'",
     {"search.improvements": ["levy"], "search.optimizer": "ga"}, {"search.optimizer": "mfo"}),
    ("search.folds = 3 needs another data.balance than 'smote_tomek', 'smote_enn' or a class of your own",
     {"search.folds": 3, "data.balance": "smote_enn"}, {"data.balance": "smote"}),
    ("search.folds = 3 needs data.balance_ratio instead of data.balance_counts",
     {"search.folds": 3, "data.balance_counts": [60, 60]}, {"data.balance_counts": []}),
    ("search.candidates_at_once = 2 needs search.evaluation = 'ridge'",
     {**AT_ONCE, "search.evaluation": "train"}, {"search.evaluation": "ridge"}),
    ("search.candidates_at_once = 2 needs search.candidate_seconds = 0",
     {**AT_ONCE, "search.candidate_seconds": 3.0}, {"search.candidate_seconds": 0.0}),
    ("search.candidates_at_once = 2 needs search.group_ranks = 0 or 1",
     {**AT_ONCE, "search.group_ranks": 2}, {"search.group_ranks": 0}),
    ("search.candidates_at_once = 2 needs a reservoir without noise, layers or scans",
     {**AT_ONCE, "reservoir.layers": 2}, {"reservoir.layers": 1}),
    ("search.method = 'select' needs another search.evaluation than 'function'",
     {"search.method": "select", **FUNCTION}, {"search.method": "optimizer"}),
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
    ("search.space.relu_slope needs training.readout = 'network'",
     {"search.space.relu_slope": BOUNDS, "search.evaluation": "train", "training.readout": "lstm",
      "reservoir.reduction": ["all"]}, {"training.readout": "network"}),
    ("search.space.hidden needs a training.readout of the package",
     {"search.space.hidden": {"low": 8, "high": 16}, "search.evaluation": "train", "training.readout": "mine:Readout"},
     {"training.readout": "network"}),
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
    settings = {"search.halving": 2, "search.folds": 3, "training.warm_start": True, "training.baseline": False}
    with pytest.raises(InputError, match=r"training\.warm_start = true needs .*; search\.halving = 2 needs"):
        parse_config(tree(settings), "(of a test)")


def test_what_is_not_searched_contradicts_nothing():
    parse_config(tree({"search.halving": 2, "search.folds": 3, "search.generations": 0}), "(of a test)")
    parse_config(tree({"search.space.density": BOUNDS, "reservoir.topology": "ring", "search.generations": 0}), "here")
