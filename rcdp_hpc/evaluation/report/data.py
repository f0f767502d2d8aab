"""The data before and after balancing."""

from __future__ import annotations

from typing import Any

from rcdp_hpc.evaluation.report.charts import Bars, Line, bar_chart, line_chart, side_by_side
from rcdp_hpc.evaluation.report.html import Html, code, join, paragraph, table
from rcdp_hpc.evaluation.report.run_files import RunFiles
from rcdp_hpc.evaluation.report.text import MOST_ROWS, class_name, counted

# Up to this number of classes, each has a bar; of more, a curve over the sorted classes is drawn.
MOST_BARS = 30
Record = dict[str, Any]


def data(files: RunFiles) -> Html:
    """Return the section about the data of a run."""
    if files.index is None:
        return paragraph("The data are not prepared, or their index cannot be read.", class_="problem")
    index = files.index
    synthetic = index["splits"]["train"]["synthetic_counts"]
    return join(
        _description(index, sum(synthetic)), _picture(index["class_table"], synthetic), _table(index, synthetic)
    )


def _description(index: Record, synthetic: int) -> Html:
    rows = {name: part["rows"] for name, part in index["splits"].items()}
    shape = " x ".join(map(str, index["sample_shape"]))
    settings = index["settings"]["data"]
    dropped = sum(entry["dropped"] for entry in index["class_table"])
    parts = ", ".join(f"{count:,} {'training' if name == 'train' else name}" for name, count in rows.items())
    method = settings.get("balance")
    made = f"No training row is synthetic (data.balance = '{method}')."
    if synthetic:
        made = f"{synthetic:,} of the training rows are synthetic, made from training rows only (data.balance = "
        made += f"'{method}')."
    sentences = [
        f"{index['source']['description']}: {counted(index['source']['samples'], 'sample')} of shape {shape} in "
        f"{counted(len(index['classes']), 'class', 'classes')}.",
        f"Rows: {parts}. {made}",
    ]
    if dropped:
        sentences.append(f"data.class_keep_fractions dropped {dropped:,} training rows before balancing.")
    return paragraph(" ".join(sentences))


def _picture(entries: list[Record], synthetic: list[int]) -> Html:
    names = [entry["class"] for entry in entries]
    before = [entry["before"] for entry in entries]
    real = [entry["after"] - made for entry, made in zip(entries, synthetic, strict=True)]
    largest, smallest = max(before), min(before)
    ratio = f"{largest / smallest:.3g} times" if smallest else "without a row in"
    fact = f"Training rows by class: before balancing the largest class has {largest:,} rows, {ratio} the smallest."
    if len(names) <= MOST_BARS:
        before_chart = bar_chart(f"{fact} Before balancing.", "Training rows before balancing.", "rows", names,
                                 [Bars("before", before)])  # fmt: skip
        if before == [entry["after"] for entry in entries] and not any(synthetic):
            return side_by_side(before_chart)
        after = f"{fact} After balancing the classes have {min(e['after'] for e in entries):,} to "
        after += f"{max(e['after'] for e in entries):,} rows, {sum(synthetic):,} of them synthetic in all."
        after_chart = bar_chart(after, "Training rows after balancing.", "rows", names,
                                [Bars("original", real), Bars("synthetic", synthetic)])  # fmt: skip
        return side_by_side(before_chart, after_chart)
    order = sorted(range(len(names)), key=lambda label: -before[label])
    places = list(range(1, len(names) + 1))
    lines = [
        Line("before balancing", places, [before[label] for label in order]),
        Line("after balancing", places, [entries[label]["after"] for label in order]),
    ]
    caption = "Training rows of the classes, from the largest to the smallest before balancing."
    return side_by_side(line_chart(fact, caption, "classes, sorted", "training rows", lines, zero=True))


def _table(index: Record, synthetic: list[int]) -> Html:
    columns = {"in the source": "source", "dropped": "dropped", "before balancing": "before"}
    if any(entry.get("wanted", entry["after"]) != entry["after"] for entry in index["class_table"]):
        columns["wanted"] = "wanted"
    columns |= {"after": "after", "validation": "validation", "test": "test"}
    if "reserve" in index["class_table"][0]:
        columns["reserve"] = "reserve"
    header = ["class", *columns]
    header.insert(header.index("after") + 1, "of them synthetic")
    rows: list[list[Any]] = []
    for entry, made in zip(index["class_table"], synthetic, strict=True):
        row = [class_name(entry["class"]), *(entry.get(name) for name in columns.values())]
        row.insert(header.index("of them synthetic"), made)
        rows.append(row)
    total = ["all", *(sum(row[place] or 0 for row in rows) for place in range(1, len(header)))]
    caption = "Rows of each class"
    if len(rows) > MOST_ROWS:
        caption += f"; {MOST_ROWS:,} of {len(rows):,} classes (shards/index.json has all)"
    rows = [*rows[:MOST_ROWS], total]
    note = paragraph("The rows of each shard and rank: ", code("rcdp inspect RUN --ranks R"), ".", class_="note")
    return join(table(caption, header, rows, tall=len(rows) > 30), note)
