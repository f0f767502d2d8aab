"""From the probabilities of a model to its answers: calibration, stated priors, thresholds and costs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rcdp_hpc.config.prediction import PredictionSection, number_of
from rcdp_hpc.errors import InputError
from rcdp_hpc.model.answers import Answers
from rcdp_hpc.model.calibration.choose import Calibration

Floats = NDArray[np.float64]
# Entry of a threshold's factor for a class that is never answered.
NEVER = -1.0


@dataclass(frozen=True, eq=False)
class AnswerRule:
    """What a model reports and answers.

    With the probabilities p of a class (calibrated, if there is a calibration), of a model whose classes have the
    shares s, the probabilities for the priors q are ``p q / s``, scaled to the sum 1 (Saerens, Latinne and
    Decaestecker, "Adjusting the outputs of a classifier to new a priori probabilities", Neural Computation 14 (2002)
    21-41). Of these, the class is answered with
    the largest ``p_c / t_c`` for thresholds t, or with the least expected cost ``sum_k p_k cost_kc`` for costs, or
    otherwise, if priors are stated, the most probable one. Without any of them the most probable class of the model
    itself is answered: a calibration alone never changes an answer.

    Attributes
    ----------
    calibration : Calibration or None
    shares : ndarray of float64, shape (classes,), or None
        Shares of the classes that the probabilities, calibrated if they are, stand for. None if not known.
    priors, thresholds : ndarray of float64, shape (classes,), or None
    costs : ndarray of float64, shape (classes, classes), or None
        Rows are true classes, columns are answered classes.
    """

    calibration: Calibration | None = None
    shares: Floats | None = None
    priors: Floats | None = None
    thresholds: Floats | None = None
    costs: Floats | None = None

    @property
    def decides(self) -> bool:
        """Whether answers follow from the reported probabilities, by priors, thresholds or costs."""
        return any(part is not None for part in (self.priors, self.thresholds, self.costs))

    @property
    def is_plain(self) -> bool:
        """Whether the model itself gives probabilities and answers."""
        return self.calibration is None and not self.decides

    @property
    def column(self) -> str:
        """The name of the reported probabilities in files: "p" without calibration and priors."""
        name = "p" if self.calibration is None else "calibrated_p"
        return name if self.priors is None else f"{name}_at_priors"

    def with_settings(self, settings: PredictionSection, classes: Sequence[str]) -> AnswerRule:
        """Return the rule with the priors, thresholds and costs of settings, of those that are not empty.

        Raises
        ------
        InputError
            If they do not fit the classes, or priors are stated and the shares of the classes are not known.
        """
        priors = vector_of("priors", settings.priors, classes)
        if priors is not None:
            if self.shares is None:
                raise InputError(
                    "prediction.priors: the file does not record the shares of the classes in its training. State them "
                    "for the model of the run directory, from which files are exported, or train it again."
                )
            if any((priors > 0) & (self.shares <= 0)):
                name = classes[int(np.argmax((priors > 0) & (self.shares <= 0)))]
                raise InputError(f"prediction.priors: class {name} has no rows in the data, so its prior must be 0.")
            priors = priors / priors.sum()
        thresholds, costs = vector_of("thresholds", settings.thresholds, classes), matrix_of(settings.costs, classes)
        if thresholds is not None and costs is not None:
            raise InputError("prediction.thresholds and prediction.costs contradict one another: state one of them.")
        rule = self if priors is None else replace(self, priors=priors)
        if thresholds is not None:
            return replace(rule, thresholds=thresholds, costs=None)
        return rule if costs is None else replace(rule, costs=costs, thresholds=None)

    def factors(self) -> Floats | None:
        """Return the factors of the probabilities by class before they are scaled to the sum 1; None without priors."""
        if self.priors is None or self.shares is None:
            return None
        return np.where(self.shares > 0, self.priors / np.where(self.shares > 0, self.shares, 1.0), 0.0)

    def decision(self) -> Floats | None:
        """Return D: the class with the largest entry of ``p D`` is answered; None for the largest p itself.

        Shape (classes, classes).
        """
        if self.costs is not None:
            return -self.costs
        if self.thresholds is None:
            return None
        never = self.thresholds > 1
        matrix = np.diag(np.where(never, 0.0, 1 / self.thresholds))
        matrix[:, never] = NEVER  # p has the sum 1, so the entry is -1
        return matrix

    def answers(self, raw: NDArray[np.float32], scores: NDArray[np.float32] | None = None) -> Answers:
        """Return the answers for rows.

        Parameters
        ----------
        raw : ndarray of float32, shape (rows, classes)
            Probabilities of the model itself.
        scores : ndarray of float32, shape (rows, classes), optional
            What the calibration reads; not needed without one.
        """
        if self.is_plain:
            return Answers.of_raw(raw)
        reported = raw
        if self.calibration is not None:
            assert scores is not None
            reported = self.calibration.probabilities(scores)
        factors = self.factors()
        if factors is not None:
            moved = reported * factors
            reported = (moved / np.maximum(moved.sum(1, keepdims=True), np.finfo(np.float64).tiny)).astype(np.float32)
        if not self.decides:
            return Answers(np.asarray(raw.argmax(1), np.int64), reported, raw)
        decision = self.decision()
        values = reported if decision is None else reported.astype(np.float64) @ decision
        return Answers(np.asarray(values.argmax(1), np.int64), reported, raw)

    def describe(self, kind: str = "") -> str:
        """Return what probabilities and answers are, as a sentence without its end.

        Parameters
        ----------
        kind : str
            As `column`, of probabilities that an exported file has calibrated; default: `column`.
        """
        kind = kind or self.column
        parts = ["calibrated probabilities" if kind.startswith("calibrated") else "probabilities of the model"]
        if kind.endswith("at_priors"):
            parts[0] += " at the stated priors"
        if self.costs is not None:
            parts.append("answers by least expected cost")
        elif self.thresholds is not None:
            parts.append("answers by thresholds")
        elif self.priors is None:
            parts.append("answers of the model")
        else:
            parts.append("the most probable class is answered")
        return "; ".join(parts)


def vector_of(key: str, entries: Sequence[float | str], classes: Sequence[str]) -> Floats | None:
    """Return the number of each class from a list of the configuration; None if it is empty.

    Raises
    ------
    InputError
        If the list has another number of entries than there are classes, names a class twice or one that does not
        exist.
    """
    if not entries:
        return None
    where = f"prediction.{key}"
    if len(entries) != len(classes):
        raise InputError(
            f"{where} has {len(entries)} entries, and there are {len(classes)} classes: {_named(classes)}."
        )
    values = np.array([number_of(entry) for entry in entries])
    names = [entry.rpartition("=")[0] for entry in entries if isinstance(entry, str)]
    if not names:
        return values
    if unknown := [name for name in names if name not in classes]:
        raise InputError(f"{where}: there is no class {unknown[0]!r}. The classes are {_named(classes)}.")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: a class is named twice. Name each of {_named(classes)} once.")
    return values[[names.index(name) for name in classes]]


def matrix_of(rows: Sequence[Sequence[float]], classes: Sequence[str]) -> Floats | None:
    """Return the costs as a matrix, shape (classes, classes); None if there are none.

    Raises
    ------
    InputError
        If there is another number of rows than there are classes.
    """
    if not rows:
        return None
    count = len(classes)
    if len(rows) != count:
        raise InputError(f"prediction.costs has {len(rows)} rows, and there are {count} classes: {_named(classes)}.")
    matrix = np.empty((count, count))
    for number, row in enumerate(rows):
        if len(row) == 1:
            matrix[number] = row[0]
            matrix[number, number] = 0.0
        else:
            matrix[number] = row
    return matrix


def check_prediction(settings: PredictionSection, classes: Sequence[str]) -> None:
    """Raise an `InputError` if priors, thresholds or costs do not fit the classes."""
    AnswerRule(shares=np.full(len(classes), 1 / len(classes))).with_settings(settings, classes)


def _named(classes: Sequence[str], most: int = 20) -> str:
    more = f" and {len(classes) - most} more" if len(classes) > most else ""
    return ", ".join(classes[:most]) + more


def stored_rule(rule: AnswerRule) -> dict[str, Any]:
    """Return a rule as plain values, which `read_rule` reads."""
    content: dict[str, Any] = {
        name: None if value is None else value.tolist()
        for name, value in (
            ("shares", rule.shares), ("priors", rule.priors), ("thresholds", rule.thresholds), ("costs", rule.costs),
        )
    }  # fmt: skip
    calibration = rule.calibration
    content["calibration"] = None if calibration is None else {
        "method": calibration.method,
        "rows": calibration.kind,
        "class_rows": calibration.class_rows,
        "before": calibration.before,
        "after": calibration.after,
        **calibration.calibrator.stored(),
    }  # fmt: skip
    return content


def read_rule(content: Mapping[str, Any], classes: int) -> AnswerRule:
    """Return the rule of plain values that `stored_rule` returned.

    Raises
    ------
    ValueError, TypeError, LookupError
        If the values are not as `stored_rule` writes them.
    """
    from rcdp_hpc.model.calibration.stored import read_calibration

    unknown = content.keys() - {"shares", "priors", "thresholds", "costs", "calibration"}
    if unknown:
        raise ValueError(f"unknown entries {', '.join(sorted(unknown))}")
    shares, priors, thresholds = (_numbers(content[name], (classes,)) for name in ("shares", "priors", "thresholds"))
    if priors is not None and (shares is None or not priors.sum() > 0):
        raise ValueError("priors without shares")
    if thresholds is not None and (not (thresholds > 0).all() or (thresholds > 1).all()):
        raise ValueError("thresholds that leave no class")
    stored = content["calibration"]
    calibration = None if stored is None else read_calibration(stored, classes)
    return AnswerRule(calibration, shares, priors, thresholds, _numbers(content["costs"], (classes, classes)))


def _numbers(values: Any, shape: tuple[int, ...]) -> Floats | None:
    if values is None:
        return None
    numbers = np.array(values, np.float64)
    if numbers.shape != shape or not np.isfinite(numbers).all() or (numbers < 0).any():
        raise ValueError(f"expected {shape} numbers of at least 0")
    return numbers
