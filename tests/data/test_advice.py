"""The settings that an error message recommends are accepted for the same input."""

import itertools
import re

import numpy as np
import pytest
from data.conftest import make_config, uneven_data

from rcdp_hpc.config.choices import BALANCING_METHODS, balancing_choice
from rcdp_hpc.data.balancing.targets import class_targets
from rcdp_hpc.data.prepare import prepare_shards
from rcdp_hpc.data.split import fold_indices, split_indices
from rcdp_hpc.errors import InputError

METHODS = BALANCING_METHODS.names


def table(path, rows, categories, numbers):
    generator = np.random.default_rng(5)
    names = [f"c{place}" for place in range(categories)] + [f"n{place}" for place in range(numbers)]
    lines = [",".join([*names, "label"])]
    for label, count in enumerate(rows):
        for _ in range(count):
            cells = [str(generator.choice(["red", "green", "blue"])) for _ in range(categories)]
            cells += [f"{generator.normal() + label:.3f}" for _ in range(numbers)]
            lines.append(",".join([*cells, f"k{label}"]))
    path.write_text("\n".join(lines) + "\n")
    return {"source": "csv", "path": path, "category_columns": names[:categories]}


def arrays(path, counts, far=False, lengths=False):
    x, y = uneven_data(counts, shape=(5, 2) if lengths else (6,))
    if far:
        x += 1000 * y.reshape(-1, *(1,) * (x.ndim - 1))
    np.savez(path, x=x, y=y)
    return {"source": "npz", "path": path}


def series(path, categories):
    lines = ["who,kind,weight,label"]
    for row in range(160):
        lines += [f"{row},{'ab'[row % 2]},{row % 7}.5,{'yn'[row % 4 == 0]}"] * (1 + row % 3)
    path.write_text("\n".join(lines) + "\n")
    columns = {"category_columns": ["kind"]} if categories else {"drop_columns": ["kind"]}
    return {"source": "csv", "path": path, "sequence_column": "who", **columns}


INPUTS = {
    "numbers": lambda path: arrays(path, (60, 30, 12)),
    "far apart": lambda path: arrays(path, (60, 30, 16), far=True),
    "a class of one sample": lambda path: arrays(path, (60, 30, 1)),
    "a class of four": lambda path: arrays(path, (60, 30, 5)),
    "few samples": lambda path: arrays(path, (6, 5)),
    "two classes of four": lambda path: arrays(path, (4, 4)),
    "categories": lambda path: table(path, (60, 30, 14), 1, 2),
    "categories, a class of four": lambda path: table(path, (60, 30, 5), 1, 2),
    "categories, a class of one": lambda path: table(path, (60, 30, 1), 1, 2),
    "all columns categories": lambda path: table(path, (60, 30, 14), 2, 0),
    "series with categories": lambda path: series(path, True),
    "series": lambda path: series(path, False),
}
OPTIONS = {
    "plain": {},
    "reserve": {"reserve": 0.2},
    "counts": {"balance_counts": "more"},
    "small budget": {"memory_budget": 1},
}


def advised(message, config):
    """Return the settings that a message recommends, each a dict of [data] keys."""
    settings = [
        {"balance": method}
        for listed in re.findall(r"data\.balance = ((?:'\w+'(?:, | or )?)+)", message.partition(":")[2])
        for method in re.findall(r"'(\w+)'", listed)
    ]
    settings += [{"smote_neighbours": int(k)} for k in re.findall(r"set data\.smote_neighbours = (\d+)", message)]
    settings += [{"memory_budget": int(m)} for m in re.findall(r"set data\.memory_budget to at least (\d+)", message)]
    settings += [{"reserve": 0.0} for _ in re.findall(r"set data\.reserve = 0", message)]
    return [{**config, **way} for way in settings if {**config, **way} != config]


def refusal(config, folder):
    """Return the error message of a preparation, empty if it is accepted."""
    try:
        prepare_shards(make_config(**config), folder)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(("options", "kind"), list(itertools.product(OPTIONS, INPUTS)))
def test_recommended_settings_are_accepted(tmp_path, monkeypatch, options, kind):
    if options == "small budget":
        # A real budget this small could not hold a block of rows.
        monkeypatch.setattr("rcdp_hpc.data.budget.Budget.refuse_wide_rows", lambda self, row_bytes, cores: None)
        monkeypatch.setattr("rcdp_hpc.data.balancing.suitability.MIB", 2048)
        monkeypatch.setattr("rcdp_hpc.data.budget.MIB", 2048)
    if "categories" in kind or "series" in kind:
        pytest.importorskip("pyarrow")
    base = {**INPUTS[kind](tmp_path / ("t.csv" if "categor" in kind or "series" in kind else "t.npz")), "shards": 1}
    base |= OPTIONS[options]
    if options == "counts":
        classes = 2 if kind in ("few samples", "two classes of four", "series", "series with categories") else 3
        base["balance_counts"] = [200] * classes
    numbers = itertools.count()
    for method in METHODS:
        config = {**base, "balance": method}
        refused = refusal(config, tmp_path / f"shards{next(numbers)}")
        ways = advised(refused, config)
        if refused and not ways:
            pytest.fail(f"{method}: no recommendation in: {refused}")
        for way in ways:
            again = refusal(way, tmp_path / f"shards{next(numbers)}")
            # Another method is accepted in any case. Another number solves this problem, but there may be others.
            if again and (way["balance"] != method or again == refused):
                pytest.fail(f"{method}: {refused}\nrecommends a setting that is refused: {again}")


@pytest.mark.parametrize("wanted", [[150, 0, 0], [100, 50, 10], [150, 50, 10], [200, 100, 50], [5, 5, 5], [-1, 0, 0]])
@pytest.mark.parametrize("method", ["smote", "random_over", "random_under"])
def test_recommended_counts_are_reached(method, wanted):
    counts = [100, 60, 10]
    for _ in range(4):  # each message is about one class
        try:
            assert len(class_targets(counts, "abc", balancing_choice(method), 1.0, wanted)) == 3
            return
        except InputError as error:
            method_named = re.search(r"set data\.balance = '(\w+)'", str(error))
            class_named = re.search(r"class (\w) has", str(error))
            if method_named:
                class_targets(counts, "abc", balancing_choice(method_named.group(1)), 1.0, wanted)
                return
            wanted = [max(0, want) for want in wanted]
            if class_named:
                wanted["abc".index(class_named.group(1))] = 0
    pytest.fail("the recommendations lead to no accepted setting")


def test_recommended_folds_are_accepted():
    y = np.repeat(np.arange(3), (4, 2, 1))
    with pytest.raises(InputError, match=r"data\.folds = 8: there are only 7 samples") as refused:
        fold_indices(y, "abc", 8, 1, 0.1, 1)
    most = re.search(r"set data\.folds to at most (\d+)", str(refused.value))
    assert fold_indices(y, "abc", int(most.group(1)), 1, 0.1, 1)


@pytest.mark.parametrize(("test", "rows"), [(0.2, 3), (0.2, 2), (None, 2)])
def test_the_recommended_number_of_samples_can_be_split(test, rows):
    with pytest.raises(InputError, match="no class has more than") as refused:
        split_indices(np.zeros(rows, np.int64), 0.1, test, 1)
    more = int(re.search(r"more than (\d+)", str(refused.value)).group(1)) + 1
    assert more > rows
    assert split_indices(np.zeros(more, np.int64), 0.1, test, 1)
