"""Sources of samples: one line for each.

``rcdp init`` proposes the first source, in this order, that recognises a file or folder.
"""

from __future__ import annotations

from dataclasses import dataclass

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable


@dataclass(frozen=True)
class SourceChoice(Choice):
    """A source of samples.

    Attributes
    ----------
    example : str
        Name of a file or folder with new samples, for the command that ``rcdp`` suggests after a run.
    has_named_columns : bool
        Whether prediction takes the columns of new samples by their names.
    """

    example: str = "NEW.npz"
    has_named_columns: bool = False


# The samples are in the memory of a Python program.
ARRAYS = "arrays"

_READERS = "rcdp_hpc.data.sources"
_TEST = "data.test_path"
_COLUMNS = (
    "data.label_column",
    "data.id_column",
    "data.sequence_column",
    "data.time_column",
    "data.group_column",
    "data.category_columns",
    "data.drop_columns",
    "data.keep_columns",
)
_IMAGES = (
    "data.image_size",
    "data.image_channels",
    "data.image_background",
    "data.image_bits",
    "data.corrupt_images",
)
_SERIES_FILES = (
    "data.time_column",
    "data.drop_columns",
    "data.keep_columns",
    "data.delimiter",
    "data.decimal",
    "data.encoding",
)
_LAYOUT = "data.image_layout"
_GROUPS = "data.group_name"
# Of the keys of sources, those that only the preparation reads; the others also say how new samples are read.
PREPARATION_KEYS = (
    _TEST, "data.y_name", "data.x_test_name", "data.y_test_name", "data.group_column", "data.group_name",
)  # fmt: skip

SOURCES = ChoiceTable(
    "data.source",
    (
        SourceChoice(
            "digits", "scikit-learn's 1797 handwritten digits of 8 x 8 pixels; needs no data.path",
            f"{_READERS}.digits:DigitsReader",
        ),
        SourceChoice(
            "npz", "NumPy archive with x and y, and x_test and y_test if there is a test set",
            f"{_READERS}.npz:NpzReader", (_LAYOUT, _GROUPS),
        ),
        SourceChoice(
            "npy", "folder with x.npy and y.npy, and x_test.npy and y_test.npy if there is a test set",
            f"{_READERS}.npy:NpyReader", (_LAYOUT, _GROUPS), example="NEW.npy",
        ),
        SourceChoice(
            "hdf5", "HDF5 file with a dataset of samples and one of labels", f"{_READERS}.hdf5:Hdf5Reader",
            (
                "data.x_name", "data.y_name", "data.x_test_name", "data.y_test_name", "data.lengths_name", _GROUPS,
                _LAYOUT,
            ),
            example="NEW.h5",
        ),
        SourceChoice(
            "ts", "time series of the UCR/UEA archives (.ts, .tsv)", f"{_READERS}.ts:TsReader",
            (_TEST, "data.encoding"), example="NEW.ts",
        ),
        SourceChoice(
            "arff", "ARFF file: series of the UCR/UEA archives, or a table", f"{_READERS}.arff:ArffReader",
            (_TEST, "data.encoding", *_COLUMNS), example="NEW.arff",
        ),
        SourceChoice(
            "mnist", "folder of IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST", f"{_READERS}.idx:IdxReader",
            example="NEW-images-idx3-ubyte",
        ),
        SourceChoice(
            "cifar10", "the official CIFAR-10 batches: a folder or the packed file", f"{_READERS}.cifar:Cifar10Reader"
        ),
        SourceChoice(
            "cifar100", "the official CIFAR-100 batches: a folder or the packed file",
            f"{_READERS}.cifar:Cifar100Reader", ("data.coarse_labels",),
        ),
        SourceChoice(
            "parquet", "Parquet table with one row per sample", f"{_READERS}.tables:ParquetReader", (_TEST, *_COLUMNS),
            example="NEW.parquet", has_named_columns=True,
        ),
        SourceChoice(
            "csv", "text table with one row per sample and a header line", f"{_READERS}.tables:CsvReader",
            (_TEST, *_COLUMNS, "data.delimiter", "data.decimal", "data.encoding"),
            example="NEW.csv", has_named_columns=True,
        ),
        SourceChoice(
            "series_folder", "one file for each series, in a folder per class or listed in labels.csv",
            f"{_READERS}.series_folder:SeriesFolderReader", (_TEST, *_SERIES_FILES), example="NEW_SERIES",
        ),
        SourceChoice(
            "image_folder", "one folder of images for each class", f"{_READERS}.image_folder:ImageFolderReader",
            (_TEST, *_IMAGES), example="NEW_IMAGES",
        ),
        SourceChoice(
            ARRAYS, "arrays or a data frame in a Python program: rcdp_hpc.run(config, out, data=(x, y))",
            f"{_READERS}.in_memory:ArraysReader",
            (_LAYOUT, _GROUPS, *(key for key in _COLUMNS if key != "data.label_column")), has_named_columns=True,
        ),
    ),
    user_class="a reader of your own (docs/extending.md)",
)  # fmt: skip


def source_choice(name: str) -> SourceChoice:
    """Return the line of a source; for a user's class, a line with the defaults."""
    choice = SOURCES[name] if name in SOURCES else SourceChoice(name, "", name, example="NEW_SAMPLES")
    assert isinstance(choice, SourceChoice)
    return choice
