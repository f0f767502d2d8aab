"""Settings that `rcdp init` proposes for typical tables."""

import numpy as np
import pytest

from rcdp_hpc.config import DataSection
from rcdp_hpc.data.sources import open_source
from rcdp_hpc.errors import InputError

pytest.importorskip("pyarrow")
from rcdp_hpc.data.sources.table_description import propose_columns

N = 60
RNG = np.random.default_rng(5)


def numbers(places=2):
    return [f"{value:.{places}f}" for value in RNG.normal(50, 9, N)]


def classes(*names):
    return [names[row % len(names)] for row in range(N)]


def proposed(tmp_path, columns, separator=",", **settings):
    path = tmp_path / "t.csv"
    lines = [separator.join(columns)] + [separator.join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    path.write_text("\n".join(lines) + "\n")
    found, sentences = propose_columns(path, DataSection(source="csv", path=str(path), **settings))
    source = open_source(DataSection(**{"source": "csv", "path": str(path), **settings, **found}))
    return found, sentences, source


def test_iris_with_species_last(tmp_path):
    columns = {"sepal_length": numbers(), "petal_length": numbers(), "species": classes("setosa", "virginica", "versi")}
    found, sentences, source = proposed(tmp_path, columns)
    assert found == {"label_column": "species"}
    assert sentences[0] == "label_column = 'species': 3 distinct values, a usual name of labels and the last column"
    assert source.columns.features == ["sepal_length", "petal_length"]


def test_wine_with_class_first(tmp_path):
    columns = {"class": classes(1, 2, 3), "alcohol": numbers(), "ash": numbers(), "proline": RNG.integers(300, 999, N)}
    found, _, source = proposed(tmp_path, columns)
    assert found == {"label_column": "class"}
    assert source.classes == ["1", "2", "3"]


def test_titanic_with_gaps_texts_and_ids(tmp_path):
    age = [value if row % 5 else "" for row, value in enumerate(numbers(0))]
    columns = {
        "PassengerId": range(1, N + 1),
        "Survived": classes(0, 1, 1),
        "Pclass": classes(1, 2, 3, 3),
        "Name": [f'"Person, {row}"' for row in range(N)],
        "Sex": classes("male", "female"),
        "Age": age,
        "Ticket": [f"T{row % 55}" for row in range(N)],
        "Fare": numbers(),
        "Cabin": ["C1" if row % 9 == 0 else "" for row in range(N)],
        "Embarked": ["" if row == 7 else "SCQ"[row % 3] for row in range(N)],
    }
    found, sentences, source = proposed(tmp_path, columns)
    assert found == {
        "label_column": "Survived",
        "id_column": "PassengerId",
        "category_columns": ["Sex", "Embarked"],
        "drop_columns": ["Ticket", "Cabin"],
        "missing": "median",
    }
    assert "column 'PassengerId' names the rows" in sentences
    assert "12 missing values in 'Age' become the median of the training rows" in sentences
    assert "1 missing values in 'Embarked' become the most frequent text" in sentences
    assert source.columns.features == ["Pclass", "Sex", "Age", "Fare", "Embarked"]
    assert source.train.ids[:2] == ["1", "2"]


def test_dates_are_left_to_the_reader(tmp_path):
    days = [f"2024-01-{1 + row % 28:02d}" for row in range(N)]
    found, _, source = proposed(tmp_path, {"date": days, "load": numbers(), "state": classes("on", "off")})
    assert found == {"label_column": "state"}
    assert source.columns.features == ["load"]


def test_semicolons_and_decimal_commas(tmp_path):
    columns = {"a": [text.replace(".", ",") for text in numbers()], "b": numbers(0), "kind": classes("x", "y")}
    found, _, source = proposed(tmp_path, columns, ";")
    assert found == {"label_column": "kind"}
    assert any("decimal mark is a comma" in sentence for sentence in source.findings.assumed)
    assert source.train.x[0, 0] == float(columns["a"][0].replace(",", "."))


def test_rows_without_a_label(tmp_path):
    columns = {"a": numbers(), "label": ["" if row < 3 else "uv"[row % 2] for row in range(N)]}
    found, _, source = proposed(tmp_path, columns)
    assert found == {"label_column": "label", "missing": "drop"}
    assert len(source.train) == N - 3


def test_booleans_as_labels_and_as_features(tmp_path):
    columns = {"ok": classes("True", "False", "False"), "a": numbers(), "churn": classes("False", "True")}
    found, _, source = proposed(tmp_path, columns)
    assert found == {"label_column": "churn"}
    assert source.classes == ["False", "True"]
    assert set(source.train.x[:, 0]) == {0, 1}


def test_a_last_column_of_texts_is_preferred_to_integers(tmp_path):
    columns = {"doors": classes(2, 4), "weight": numbers(0), "maker": classes("a", "b", "c")}
    assert proposed(tmp_path, columns)[0] == {"label_column": "maker"}


def test_settings_of_the_user_are_kept(tmp_path):
    columns = {"sex": classes("m", "f"), "a": numbers(), "ward": classes("x", "y", "z")}
    found, sentences, _ = proposed(tmp_path, columns, label_column="sex")
    assert found == {"label_column": "sex", "category_columns": ["ward"]}
    assert sentences[0] == "label_column = 'sex': as set"


@pytest.mark.parametrize("name", ["target", "price"])
def test_a_measured_quantity_is_refused(tmp_path, name):
    columns = {"rooms": classes(1, 2, 3), "area": numbers(), name: numbers(4)}
    with pytest.raises(InputError, match=rf"measured quantity|no column looks like labels.*'{name}'"):
        proposed(tmp_path, columns)


@pytest.mark.parametrize(("name", "patients", "proposed"), [("Patient ID", 20, True), ("patient", 5, False),
                                                           ("sites", 12, True), ("website", 20, False)])  # fmt: skip
def test_a_column_that_names_patients_is_proposed_as_groups(tmp_path, name, patients, proposed):
    lines = [f"p{row % patients},{row * 7 % 11}.5,{'xy'[row % 3 % 2]}" for row in range(80)]
    (tmp_path / "t.csv").write_text("\n".join([f"{name},a,label", *lines]) + "\n")
    found, sentences = propose_columns(tmp_path / "t.csv", DataSection(source="csv", path=str(tmp_path / "t.csv")))
    assert found.get("group_column", "") == (name if proposed else "")
    assert found.get("category_columns", []) == ([] if proposed else [name])
    assert any("names groups of rows" in sentence for sentence in sentences) == proposed
