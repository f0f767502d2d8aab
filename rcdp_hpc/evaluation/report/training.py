"""The training: its curves, or the solution of a readout that has no epochs."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.config.choices.chosen_by import criterion_value
from rcdp_hpc.evaluation.epochs import best_epoch
from rcdp_hpc.evaluation.report.charts import Line, line_chart, side_by_side
from rcdp_hpc.evaluation.report.html import Html, join, number, paragraph, percent, table
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import counted, duration

Record = dict[str, Any]


def training(files: RunFiles) -> Html:
    """Return the section about the training."""
    status, result = files.status("train"), files.states["train"].get("result") or {}
    if not files.metrics and not result:
        return paragraph(f"The training has no complete epoch yet (it is {status}).", class_="problem")
    if not files.metrics:
        return _solved(result)
    best = best_epoch(files.metrics) or files.metrics[0]
    text = f"{counted(len(files.metrics), 'epoch')}; the best model is that of epoch {best['epoch'] + 1}: validation "
    text += f"accuracy {percent(best['validation_accuracy'], 2)}, validation loss {number(best['validation_loss'])}."
    text += _criterion(files, best)
    text += f" The training ended: {result['ended']}." if result.get("ended") else f" The training is {status}."
    return join(
        paragraph(text),
        side_by_side(_loss(files.metrics, best), _accuracy(files.metrics, best)),
        _last(files.metrics, best),
    )


def _criterion(files: RunFiles, best: Record) -> str:
    """Return what chose the best epoch, if it is not the validation loss."""
    if "validation_fitness" not in best or files.config is None:
        return ""
    name = files.config.training.criterion
    value = number(criterion_value(name, best["validation_fitness"]))
    return f" The epoch was chosen by {name}, {value} on the validation rows."


def _worth(loss: Any) -> float:
    return float(loss) if isinstance(loss, int | float) and loss == loss else float("inf")


def _solved(result: Record) -> Html:
    text = f"The readout was solved, not trained in epochs ({result.get('ended', 'done')})."
    text += f" Validation accuracy {percent(result.get('validation_accuracy'), 2)}."
    if "penalty" in result:
        selected = {"left-out": "the left-out error", "validation": "the validation rows"}.get(
            result.get("selected_by", "")
        )
        text += f" The penalty of the squared weights is {number(result['penalty'])}"
        text += f", selected by {selected}." if selected else "."
    return paragraph(text)


def _loss(metrics: list[Record], best: Record) -> Html:
    fact = f"Loss over the epochs: the validation loss went from {number(metrics[0]['validation_loss'])} to "
    fact += f"{number(best['validation_loss'])} in epoch {best['epoch'] + 1}, the best."
    mark = (float(best["epoch"] + 1), _worth(best["validation_loss"]), "best model")
    return line_chart(fact, "Loss.", "epoch", "loss", _lines(metrics, "loss", 1), log_y=True, mark=mark)


def _accuracy(metrics: list[Record], best: Record) -> Html:
    fact = f"Accuracy over the epochs: {percent(best['validation_accuracy'])} in validation and "
    fact += f"{percent(best['train_accuracy'])} in training in epoch {best['epoch'] + 1}, the best."
    mark = (float(best["epoch"] + 1), 100 * float(best["validation_accuracy"]), "best model")
    return line_chart(fact, "Accuracy.", "epoch", "accuracy (%)", _lines(metrics, "accuracy", 100), mark=mark)


def _lines(metrics: list[Record], name: str, factor: float) -> list[Line]:
    epochs = [epoch["epoch"] + 1 for epoch in metrics]
    return [
        Line(title, epochs, [None if epoch.get(key) is None else factor * epoch[key] for epoch in metrics])
        for title, key in (("training", f"train_{name}"), ("validation", f"validation_{name}"))
    ]


def _last(metrics: list[Record], best: Record) -> Html:
    columns = {
        "training loss": "train_loss",
        "validation loss": "validation_loss",
        "training accuracy": "train_accuracy",
        "validation accuracy": "validation_accuracy",
        "learning rate": "learning_rate",
        "gradient norm": "gradient_norm",
    }
    chosen = {"first": metrics[0], "best": best, "last": metrics[-1]}
    rows = []
    for name, epoch in chosen.items():
        values = [
            percent(epoch.get(key), 2) if "accuracy" in key else number(epoch.get(key)) for key in columns.values()
        ]
        rows.append([f"{name} ({epoch['epoch'] + 1})", *values, duration(epoch.get("seconds"))])
    skipped = sum(epoch.get("skipped_steps") or 0 for epoch in metrics)
    note = f" {counted(skipped, 'step')} were skipped, because their gradient was not finite." if skipped else ""
    return table(f"Three epochs.{note}", ("epoch", *columns, "time"), rows)
