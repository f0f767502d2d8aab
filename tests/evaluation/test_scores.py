"""The criteria of a test over ranks, and their record."""

from __future__ import annotations

import json
import math
import warnings
from inspect import getsource

import numpy as np
import pytest
from launch import python, run_ranks
from sklearn import metrics

from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.evaluation.score_record import score_lines, score_record
from rcdp_hpc.evaluation.scores import TestScores
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.criteria.measured import measure
from rcdp_hpc.runtime.comm.base import Communicator
from rcdp_hpc.runtime.comm.single import SingleProcess

NAMES = ["a", "b", "c", "d"]
IMPORTS = f"""
from __future__ import annotations
import json
import numpy as np
from rcdp_hpc.data.split import slab_bounds
from rcdp_hpc.evaluation.score_record import score_record
from rcdp_hpc.evaluation.scores import TestScores
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.runtime.comm.connect import connect
NAMES = {NAMES}
"""
PRINTED = """
with_ranks = connect()
record = measured(with_ranks)
if with_ranks.is_root:
    print(json.dumps(record), flush=True)
with_ranks.close()
"""


def rows() -> tuple[np.ndarray, np.ndarray]:
    """Labels and probabilities of 101 rows; class d has none. Some probabilities are equal."""
    generator = np.random.default_rng(3)
    labels = np.sort(generator.choice(3, 101, p=[0.8, 0.15, 0.05])).astype(np.int32)
    scores = np.round(generator.random((101, 4)), 1) + 0.1
    scores[np.arange(101), labels] += 0.4
    return labels, (scores / scores.sum(1, keepdims=True)).astype(np.float32)


def measured(comm: Communicator) -> dict:
    """The record of the rows, which each rank adds its slab of, in two blocks."""
    labels, probabilities = rows()
    start, stop = slab_bounds(len(labels), comm.rank, comm.size)
    scores = TestScores(NAMES)
    for low, high in ((start, (start + stop) // 2), ((start + stop) // 2, stop)):
        raw = probabilities[low:high]
        answers = Answers(raw.argmax(1), raw, np.sqrt(raw) / np.sqrt(raw).sum(1, keepdims=True))
        scores.add(labels[low:high], answers, ridge=raw[:, ::-1])
    found, uncalibrated, test = scores.measure(comm)
    return {
        **score_record(found),
        "uncalibrated": uncalibrated,
        "ridge": None if test is None or test.ridge is None else test.ridge.tolist(),
    }


def test_the_record_has_the_values_of_scikit_learn():
    labels, probabilities = rows()
    found, predicted = measured(SingleProcess()), probabilities.argmax(1)
    assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(labels, predicted), abs=1e-12)
    areas = [metrics.roc_auc_score(labels == k, probabilities[:, k]) for k in range(3)]
    assert found["macro_roc_auc"] == pytest.approx(np.mean(areas), abs=1e-12)
    assert found["roc_auc"] == [*(round(area, 6) for area in areas), None]
    assert found["intervals"]["roc_auc"][3] is None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # rows of float32 do not sum to exactly 1
        expected = metrics.log_loss(labels, probabilities.astype(float), labels=range(4))
    assert found["log_loss"] == pytest.approx(expected, abs=1e-12)
    assert found["uncalibrated"].keys() == {"log_loss", "brier", "ece"}
    assert found["uncalibrated"]["ece"] != found["ece"]
    assert found["ridge"] == probabilities[:, ::-1].argmax(1).tolist()


@pytest.mark.mpi
def test_any_number_of_ranks_measures_the_same():
    done = run_ranks(3, python(IMPORTS + getsource(rows) + getsource(measured) + PRINTED), timeout=60)
    assert done.returncode == 0, done.stdout
    line = next(line for line in done.stdout.splitlines() if line.startswith("{"))
    assert json.loads(line) == json.loads(json.dumps(measured(SingleProcess())))


def test_the_table_names_what_has_no_value():
    labels, probabilities = rows()
    one = score_record(measure(labels[:5], probabilities[:5].argmax(1), probabilities[:5], NAMES))
    lines = score_lines({**one, "undefined": {**one["undefined"], "ece": "\x1b[2J"}})
    assert lines[-2:] == [
        "  undefined: Matthews' correlation, Cohen's kappa, macro PR-AUC, macro ROC-AUC: all samples are of class a",
        r"  undefined: calibration error: \x1b[2J",
    ]
    calibrated = score_lines({**one, "uncalibrated": {"log_loss": 0.9, "ece": 0.25}})
    assert "  before calibration: log loss 0.900, calibration error 0.250" in calibrated
    assert one["mcc"] is None
    assert math.isfinite(one["brier"])
    assert not any(line.strip().startswith("Cohen") for line in lines)
