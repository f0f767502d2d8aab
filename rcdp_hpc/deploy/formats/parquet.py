"""Predictions as a Parquet table."""

from __future__ import annotations

from typing import BinaryIO

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from rcdp_hpc.deploy.formats.base import OutputFormat, Predictions, printable


class ParquetFormat(OutputFormat):
    """The columns of the CSV table; probabilities are float32."""

    def write(self, file: BinaryIO, predictions: Predictions) -> None:
        """Write predictions; see `OutputFormat.write`."""
        sample, label, columns = predictions.header
        fields = [(sample, pa.int64() if predictions.ids is None else pa.string()), (label, pa.string())]
        numbers = [*columns, "disagreement"] if predictions.has_disagreement else columns
        schema = pa.schema([*fields, *((name, pa.float32()) for name in numbers)])
        names = np.array(predictions.classes)
        with parquet.ParquetWriter(file, schema) as writer:
            for ids, block in predictions.with_ids():
                texts = list(ids) if predictions.ids is None else [printable(str(name)) for name in ids]
                arrays = [pa.array(texts, schema.field(0).type), pa.array(names[block.labels], pa.string())]
                arrays += [pa.array(np.ascontiguousarray(column)) for column in block.probabilities.T]
                if block.disagreement is not None:
                    arrays.append(pa.array(block.disagreement))
                writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
