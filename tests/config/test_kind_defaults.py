"""Defaults that depend on the kind of data: only for keys that a user's file leaves out."""

from __future__ import annotations

import pytest

from rcdp_hpc.config import (
    KINDS,
    DataFacts,
    commented_toml,
    known_keys,
    load_config,
    profile_names,
    with_kind_defaults,
    with_settings,
)
from rcdp_hpc.config.kind_defaults import KIND_KEYS, KIND_PROFILES, kind_defaults

SHAPES = {
    "table": [(1,), (30,), (60_000,)],
    "series": [(1, 1), (500, 12)],
    "images": [(8, 8), (12, 30, 3), (224, 224, 3)],
}


def written(tmp_path, text):
    (tmp_path / "my.toml").write_text(text)
    return load_config(tmp_path / "my.toml")


@pytest.mark.parametrize("kind", KINDS)
def test_every_default_is_accepted_for_every_shape(kind, tmp_path):
    config = written(tmp_path, '[data]\nsource = "npz"\npath = "x.npz"\n')
    for shape in SHAPES[kind]:
        found = with_kind_defaults(config, DataFacts(kind, shape))
        assert found.chosen is None
        assert found.readout.kind == "ridge"
        assert found.has_search == (kind == "images" and min(shape[:2]) < 12)
        assert set(kind_defaults(DataFacts(kind, shape), {})) <= KIND_KEYS <= set(known_keys()) | _space(known_keys())


def _space(keys):
    return {f"{key}.{part}" for key in keys if key.startswith("search.space.") for part in ("low", "high", "log")}


def test_what_the_file_sets_is_never_changed(tmp_path):
    text = "[reservoir]\nnodes = 77\n[search.space]\nleak = { low = 0.1, high = 1.0 }\n"
    config = with_settings(written(tmp_path, text), {"readout.kind": "lstm", "reservoir.reduction": "all"}, "here")
    found = with_kind_defaults(config, DataFacts("series", (9, 2)))
    assert (found.reservoir.nodes, found.readout.kind, found.reservoir.reduction) == (77, "lstm", ["all"])
    assert found.search.space.leak is not None
    assert found.search.space.spectral_radius is None


@pytest.mark.parametrize(("features", "inputs"), [(1, 1), (4, 4), (5, 5), (7, 5), (30, 7), (60_000, 15_000)])
def test_random_features_of_a_table_read_few_columns_and_add_up_to_one_size(features, inputs, tmp_path):
    reservoir = with_kind_defaults(written(tmp_path, ""), DataFacts("table", (features,))).reservoir
    assert round(reservoir.input_density * features) == inputs
    # Weights uniform in [-s, s] have the deviation s / sqrt(3).
    assert reservoir.input_scaling * (inputs / 3) ** 0.5 == pytest.approx(2.0, rel=0.05)


def test_a_table_that_is_cut_into_steps_is_a_series(tmp_path):
    config = written(tmp_path, '[reservoir]\nsequence = "pixels"\n')
    found = with_kind_defaults(config, DataFacts("table", (20,)))
    assert found.reservoir.input_density == 1
    assert found.reservoir.reduction == with_kind_defaults(config, DataFacts("series", (20, 1))).reservoir.reduction


def test_who_sets_the_epochs_trains_a_network(tmp_path):
    config = written(tmp_path, "[training]\nepochs = 5\n")
    found = with_kind_defaults(config, DataFacts("table", (4,)))
    assert (found.readout.kind, found.training.epochs) == ("network", 5)


def test_a_search_for_images_has_no_dictionary(tmp_path):
    config = written(tmp_path, "[search]\ngenerations = 3\n")
    found = with_kind_defaults(config, DataFacts("images", (28, 28)))
    assert (found.search.generations, found.extractor.kind) == (3, "none")
    assert found.has_search


@pytest.mark.parametrize("name", sorted(set(profile_names()) - set(KIND_PROFILES.values())))
def test_profiles_are_complete(name):
    config = load_config(name)
    assert config.chosen is None
    assert with_kind_defaults(config, DataFacts("table", (4,))) is config


def test_a_configuration_that_waits_keeps_waiting_when_it_is_written(tmp_path):
    config = written(tmp_path, '[data]\npath = "x.csv"\nsource = "csv"\n')
    (tmp_path / "again.toml").write_text(commented_toml(config))
    assert load_config(tmp_path / "again.toml").chosen == config.chosen == {"data.path", "data.source"}
    whole = with_kind_defaults(config, DataFacts("table", (4,)))
    (tmp_path / "whole.toml").write_text(commented_toml(whole))
    assert load_config(tmp_path / "whole.toml").chosen is None


@pytest.mark.parametrize("kind", ["none", "diagonal"])
def test_the_default_search_is_for_random_reservoirs(tmp_path, kind):
    facts = DataFacts("images", (8, 8))
    assert with_kind_defaults(written(tmp_path, '[reservoir]\nkind = "random"\n'), facts).has_search
    assert not with_kind_defaults(written(tmp_path, f'[reservoir]\nkind = "{kind}"\n'), facts).has_search
