"""What each value of each choice means: one table, from which `rcdp config`, the reference page and completion follow.

A key that accepts certain values only (a ``Literal``), or the name of a part next to ``module:Class``, has an entry
here. A test compares the table with the sections.
"""

from __future__ import annotations

from collections.abc import Mapping

_OWN_CLASS = "module:Class"

CHOICES: Mapping[str, Mapping[str | int, str]] = {
    "run.same_processor": {
        "warn": "name what differs, and continue",
        "refuse": "name what differs, and end with exit code 2",
    },
    "data.source": {
        "digits": "scikit-learn's 1797 handwritten digits of 8 x 8 pixels; needs no data.path",
        "mnist": "folder of IDX files: MNIST, Fashion-MNIST, KMNIST, EMNIST",
        "npz": "NumPy archive with x and y, and x_test and y_test if there is a test set",
        "npy": "folder with x.npy and y.npy, and x_test.npy and y_test.npy if there is a test set",
        "cifar10": "the official CIFAR-10 batches: a folder or the packed file",
        "cifar100": "the official CIFAR-100 batches: a folder or the packed file",
        "csv": "text table with one row per sample and a header line",
        "parquet": "Parquet table with one row per sample",
        "hdf5": "HDF5 file with a dataset of samples and one of labels",
        "ts": "time series of the UCR/UEA archives (.ts, .tsv)",
        "arff": "ARFF file: series of the UCR/UEA archives, or a table",
        "image_folder": "one folder of images for each class",
        "series_folder": "one file for each series, in a folder per class or listed in labels.csv",
    },
    "data.kind": {
        "auto": "as the source says",
        "table": "a row of numbers for each sample",
        "series": "time steps of features",
        "images": "images",
    },
    "data.standardize": {
        "auto": "standard for tables and series, none for images",
        "none": "values stay as they are",
        "standard": "by mean and standard deviation of the training rows",
        "robust": "by median and quartile range of the training rows",
        "series": "each series by its own mean and standard deviation",
    },
    "data.missing": {
        "refuse": "refuse the source and name the value",
        "drop": "leave the sample out and report it",
        "fill": "fill with the training rows' mean (median with standardize = robust)",
    },
    "data.image_layout": {
        "auto": "as the shape suggests",
        "channels_last": "height, width, channels",
        "channels_first": "channels, height, width",
    },
    "data.decimal": {"auto": "found by reading", ".": "decimal point", ",": "decimal comma"},
    "data.unknown_categories": {
        "refuse": "refuse the sample and name the category",
        "most_frequent": "count it as the most frequent category of the training",
    },
    "data.image_channels": {0: "1 if all images are grey, otherwise 3", 1: "grey images", 3: "colour images"},
    "data.image_background": {
        "white": "white",
        "grey": "medium grey",
        "black": "black",
    },
    "data.corrupt_images": {
        "fail": "end the preparation and name the image",
        "skip": "leave the image out and report it",
    },
    "data.balance": {
        "smote": "synthetic samples between a sample and its neighbours of the same class (paper)",
        "borderline_smote": "SMOTE from the samples near the border to other classes",
        "svm_smote": "SMOTE from the support vectors of an SVM",
        "adasyn": "SMOTE with more samples where neighbours belong to other classes",
        "kmeans_smote": "SMOTE within clusters found by k-means",
        "smotenc": "SMOTE for tables with data.category_columns",
        "smote_tomek": "SMOTE, then remove Tomek links",
        "smote_enn": "SMOTE, then remove samples that differ from most of their neighbours",
        "random_over": "repeat random samples of the smaller classes",
        "random_under": "remove random samples of the larger classes",
        "none": "leave the classes as they are",
    },
    "data.storage": {
        "auto": "uint8 if the source has bytes, float32 otherwise",
        "float32": "32 bits per number",
        "float16": "16 bits per number, rounded",
        "uint8": "8 bits per number, for sources of bytes",
    },
    "data.compression": {
        "none": "not compressed, the fastest to read",
        "lzf": "fast, moderate compression",
        "gzip": "slower, better compression",
        "fastest": "lzf or gzip, whichever is read faster from the disk of the shards",
    },
    "data.on_damage": {
        "fail": "end the training and name the shard",
        "replace": "replace the damaged rows from the reserve (data.reserve)",
    },
    "reservoir.kind": {
        "random": "the fixed random network; for the rows of a table, which are one step, a layer of random features",
        "diagonal": "damped oscillators without connections, read by a random layer; its cost grows with the nodes",
        "none": "no reservoir: the readout reads the sequence itself (a table: a linear readout of its features)",
    },
    "reservoir.scaling": {
        "spectral_radius": "recurrent weights are scaled to reservoir.spectral_radius",
        "weight_scale": "recurrent weights are uniform in [-w, w], w = reservoir.weight_scale",
    },
    "reservoir.activation": {
        "tanh": "hyperbolic tangent (paper, eq. 9)",
        "sigmoid": "logistic function (paper, Table 2)",
        "relu": "max(0, x)",
        "identity": "linear",
    },
    "reservoir.topology": {
        "random": "each connection exists with probability reservoir.density",
        "ring": "each neuron feeds the next one",
        "small-world": "ring with a share of its connections rewired (reservoir.rewiring)",
        "cycle-jumps": "ring with jumps of reservoir.jump neurons",
    },
    "reservoir.weights": {
        "uniform": "uniform in [-1, 1]",
        "normal": "standard normal",
        "bernoulli": "-1 or 1",
        "orthogonal": "random orthogonal matrix",
    },
    "reservoir.input_weights": {
        "uniform": "uniform in [-1, 1]",
        "normal": "standard normal",
        "bernoulli": "-1 or 1",
    },
    "reservoir.series_scaling": {
        "none": "not at all",
        "standard": "each feature to mean 0 and standard deviation 1 over the series' own steps",
    },
    "reservoir.scans": {
        "forward": "from the first step to the last",
        "backward": "from the last step to the first",
        "rows": "the rows of sequence = both",
        "columns": "the columns of sequence = both",
        "rows-backward": "the rows of sequence = both, from the last to the first",
        "columns-backward": "the columns of sequence = both, from the last to the first",
    },
    "reservoir.sequence": {
        "rows": "a row of the image, or a time step of the series, is a step",
        "columns": "a column of the image is a step",
        "both": "a row and a column of a square image together are a step",
        "patches": "a patch of the image is a step (reservoir.piece_size)",
        "windows": "a window of time steps is a step (reservoir.piece_size)",
        "channels": "a colour channel is a step",
        "pixels": "a pixel is a step",
    },
    "reservoir.piece_edge": {
        "refuse": "refuse a size that leaves rows, columns or time steps over",
        "drop": "leave them out",
    },
    "reservoir.reduction": {
        "states": "some states: reservoir.states or reservoir.steps",
        "all": "the state of every step, alone",
        "last": "the state after the last step",
        "mean": "mean over the steps",
        "std": "standard deviation over the steps",
        "mean_std": "mean and standard deviation over the steps",
        "segments": "means over equal parts of the steps (reservoir.segments)",
        "positive": "share of the steps with a state above 0",
        "max": "largest state over the steps",
    },
    "reservoir.kernel": {
        "auto": "measure once, take the fastest whose rounding does no harm, and record it",
        "dense-fp32": "float32 products",
        "dense-bf16": "bfloat16 products",
        "dense-fp16": "float16 products (GPUs)",
        "fused-bf16": "bfloat16 products with the activation included, by oneDNN",
        "sparse-fp32": "float32 products of a sparse matrix, for large sparse reservoirs",
    },
    "search.method": {
        "optimizer": "search.optimizer proposes candidates within search.space",
        "select": "judge every state set once; then search.optimizer starts from the best, if search.generations > 0",
    },
    "search.optimizer": {
        "mfo": "moth-flame optimisation (paper)",
        "woa": "whale optimisation",
        "avoa": "African vultures optimisation",
        "pso": "particle swarm optimisation",
        "ga": "genetic algorithm",
        "random": "uniform random search",
        "sobol": "Sobol sequence",
    },
    "search.improvements": {
        "opposition": "half of the first moths are the opposites of the others",
        "levy": "a step of a Levy flight after each move",
        "restart": "draw the last quarter again after 5 generations without a better flame",
    },
    "search.fitness": {
        "eq5": "inverse of the validation error, with a penalty on the density (eq. 5)",
        "accuracy": "validation accuracy",
    },
    "search.evaluation": {
        "ridge": "solve the readout by ridge regression",
        "train": "train the readout for search.epochs epochs",
        "function": "call your own function (search.function)",
    },
    "search.device": {
        "cpu": "the processor",
        "gpu": "the GPU of the rank",
    },
    "training.readout": {
        "network": "the network of eq. 10 and 11 (paper)",
        "ridge": "linear, solved by ridge regression",
        "lstm": "LSTM over the kept states",
        "gru": "GRU over the kept states",
        "transformer": "transformer over the kept states",
        "convolution": "convolution over the kept states",
        _OWN_CLASS: "a class of your own (docs/networks.md)",
    },
    "training.ridge_selection": {
        "auto": "left_out for few rows, validation for many",
        "left_out": "by the error of every original row, left out of the fit (states of all rows in memory of rank 0)",
        "validation": "by the error on the validation rows",
    },
    "training.ridge_precision": {"double": "float64", "single": "float32"},
    "training.tree_baseline": {
        "auto": "for tables of at most 5 million rows x features x classes, some 15 seconds of one core",
        "always": "for every table",
        "never": "for none",
    },
    "training.loss": {
        "cross_entropy": "cross-entropy",
        "focal": "focal loss: well-predicted rows count less (training.focal_gamma)",
        "eq12": "root mean square error (eq. 12, paper)",
    },
    "training.class_weights": {
        "none": "every row counts the same",
        "balanced": "every class counts the same, without changing the rows as data.balance does",
    },
    "training.optimizer": {
        "adam": "Adam (paper)",
        "adamw": "Adam with decoupled weight decay",
        "sgd": "stochastic gradient descent with momentum",
        "lamb": "LAMB, for very large batches",
        "muon": "Muon, which needs few epochs",
    },
    "training.rate_scaling": {
        "none": "no change",
        "sqrt": "times the square root of the number of ranks (with global_batch: of global_batch / batch)",
        "linear": "times the number of ranks (with global_batch: global_batch / batch)",
    },
    "training.schedule": {
        "constant": "the same throughout",
        "step": "falls every schedule_epochs epochs",
        "cosine": "falls to 0 on half a cosine",
        "one_cycle": "rises and falls once",
        "plateau": "falls after schedule_epochs epochs without a better validation loss",
    },
    "training.on_nan": {
        "stop": "end the training",
        "skip": "leave the step out and halve the learning rate",
    },
    "training.slices": {
        "together": "all ranks train one network",
        "averaged": "each rank trains a network on its rows; their weights are averaged",
        "ensemble": "each rank trains a network on its rows; their scores are averaged",
    },
    "training.compression": {"none": "float32", "fp16": "float16"},
    "training.cache_precision": {
        "kernel": "the number format of the kernel",
        "bfloat16": "16 bits",
        "float16": "16 bits",
    },
    "training.allotment": {
        "equal": "the same number for every rank",
        "speeds": "in proportion to training.speeds",
        "measured": "in proportion to speeds measured at the start",
    },
    "training.precision": {
        "fp32": "float32",
        "bf16": "bfloat16",
        "fp16": "float16, on GPUs only; gradients are scaled",
    },
    "training.extractor.kind": {
        "none": "none: the sample as reservoir.sequence cuts it",
        "kernels": "random convolution kernels of series, joined to the reservoir's states; fixed",
        "dictionary": "dictionary of image patches, learned without labels, then fixed",
        "convolution": "trained convolutions",
        _OWN_CLASS: "a class of your own, trained (docs/networks.md)",
    },
    "training.extractor.kernel_inputs": {
        "values": "the values of the series",
        "differences": "differences between consecutive steps",
        "standardised": "the values, each series and feature brought to mean 0 and standard deviation 1",
    },
    "training.extractor.activation": {"relu": "max(0, x)", "gelu": "Gaussian error linear unit"},
    "training.extractor.sequence": {
        "rows": "a row of the map is a step",
        "positions": "a position of the map is a step",
    },
    "training.extractor.learning": {
        "kmeans": "k-means on the sphere",
        "patches": "random patches as they are",
    },
    "training.extractor.precision": {"fp32": "float32", "bf16": "bfloat16"},
    "training.augment.edges": {
        "zero": "the mean",
        "reflect": "the image mirrored at its edge",
    },
}


def choices_of(key: str) -> Mapping[str | int, str]:
    """Return the accepted values of a dotted key and their meanings; empty if the key is not a choice."""
    return CHOICES.get(key, {})
