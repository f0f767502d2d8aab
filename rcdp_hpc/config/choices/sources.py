"""Sources of samples: one line for each."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

SOURCES = ChoiceTable(
    "data.source",
    (
        Choice("digits", "scikit-learn's 1797 handwritten digits of 8 x 8 pixels; needs no data.path"),
        Choice("mnist", "folder of IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST"),
        Choice("npz", "NumPy archive with x and y, and x_test and y_test if there is a test set"),
        Choice("npy", "folder with x.npy and y.npy, and x_test.npy and y_test.npy if there is a test set"),
        Choice("cifar10", "the official CIFAR-10 batches: a folder or the packed file"),
        Choice("cifar100", "the official CIFAR-100 batches: a folder or the packed file"),
        Choice("csv", "text table with one row per sample and a header line"),
        Choice("parquet", "Parquet table with one row per sample"),
        Choice("hdf5", "HDF5 file with a dataset of samples and one of labels"),
        Choice("ts", "time series of the UCR/UEA archives (.ts, .tsv)"),
        Choice("arff", "ARFF file: series of the UCR/UEA archives, or a table"),
        Choice("image_folder", "one folder of images for each class"),
        Choice("series_folder", "one file for each series, in a folder per class or listed in labels.csv"),
    ),
)
