"""Choices between plain values: what each accepted value of a key means."""

from __future__ import annotations

from rcdp_hpc.config.choices.choice import Choice, ChoiceTable

_PIECES = ("reservoir.piece_size", "reservoir.piece_stride", "reservoir.piece_edge")
_REDUCTIONS = "rcdp_hpc.reservoir.reductions"
_TOPOLOGY = "rcdp_hpc.reservoir.topology"

PLAIN_TABLES = (
    ChoiceTable(
        "run.same_processor",
        (
            Choice("warn", "name what differs, and continue"),
            Choice("refuse", "name what differs, and end with exit code 2"),
        ),
    ),
    ChoiceTable(
        "data.kind",
        (
            Choice("auto", "as the source says"),
            Choice("table", "a row of numbers for each sample"),
            Choice("series", "time steps of features"),
            Choice("images", "images"),
        ),
    ),
    ChoiceTable(
        "data.standardize",
        (
            Choice("auto", "standard for tables and series, none for images"),
            Choice("none", "values stay as they are"),
            Choice("standard", "by mean and standard deviation of the training rows"),
            Choice("robust", "by median and quartile range of the training rows"),
            Choice("series", "each series by its own mean and standard deviation"),
        ),
    ),
    ChoiceTable(
        "data.missing",
        (
            Choice("refuse", "refuse the source and name the value"),
            Choice("drop", "leave the sample out and report it"),
            Choice("mean", "fill it with the mean of the training rows (a category: with the most frequent one)"),
            Choice("median", "fill it with the median of the training rows (a category: with the most frequent one)"),
            Choice(
                "constant",
                "fill it with data.missing_constant (a category: with the most frequent one)",
                keys=("data.missing_constant",),
            ),
        ),
    ),
    ChoiceTable(
        "data.image_layout",
        (
            Choice("auto", "as the shape suggests"),
            Choice("channels_last", "height, width, channels"),
            Choice("channels_first", "channels, height, width"),
        ),
    ),
    ChoiceTable(
        "data.decimal",
        (
            Choice("auto", "found by reading"),
            Choice(".", "decimal point"),
            Choice(",", "decimal comma"),
        ),
    ),
    ChoiceTable(
        "data.unknown_categories",
        (
            Choice("refuse", "refuse the sample and name the category"),
            Choice("most_frequent", "count it as the most frequent category of the training"),
        ),
    ),
    ChoiceTable(
        "data.image_channels",
        (
            Choice(0, "1 if all images are grey, otherwise 3"),
            Choice(1, "grey images"),
            Choice(3, "colour images"),
        ),
    ),
    ChoiceTable(
        "data.image_background",
        (
            Choice("white", "white"),
            Choice("grey", "medium grey"),
            Choice("black", "black"),
        ),
    ),
    ChoiceTable(
        "data.corrupt_images",
        (
            Choice("fail", "end the preparation and name the image"),
            Choice("skip", "leave the image out and report it"),
        ),
    ),
    ChoiceTable(
        "data.storage",
        (
            Choice("auto", "uint8 if the source has bytes, float32 otherwise"),
            Choice("float32", "32 bits per number"),
            Choice("float16", "16 bits per number, rounded"),
            Choice("uint8", "8 bits per number, for sources of bytes"),
        ),
    ),
    ChoiceTable(
        "data.compression",
        (
            Choice("none", "not compressed, the fastest to read"),
            Choice("lzf", "fast, moderate compression"),
            Choice("gzip", "slower, better compression"),
            Choice("fastest", "lzf or gzip, whichever is read faster from the disk of the shards"),
        ),
    ),
    ChoiceTable(
        "data.on_damage",
        (
            Choice("fail", "end the training and name the shard"),
            Choice("replace", "replace the damaged rows from the reserve (data.reserve)"),
        ),
    ),
    ChoiceTable(
        "reservoir.kind",
        (
            Choice(
                "random",
                "the fixed random network; for the rows of a table, which are one step, a layer of random features",
            ),
            Choice(
                "diagonal",
                "damped oscillators without connections, read by a random layer; its cost grows with the nodes",
                keys=("reservoir.memory_units", "reservoir.memory_steps"),
            ),
            Choice(
                "none",
                "no reservoir: the readout reads the sequence itself (a table: a linear readout of its features)",
            ),
        ),
    ),
    ChoiceTable(
        "reservoir.scaling",
        (
            Choice(
                "spectral_radius",
                "recurrent weights are scaled to reservoir.spectral_radius",
                keys=("reservoir.spectral_radius",),
            ),
            Choice(
                "weight_scale",
                "recurrent weights are uniform in [-w, w], w = reservoir.weight_scale",
                keys=("reservoir.weight_scale",),
            ),
        ),
    ),
    ChoiceTable(
        "reservoir.topology",
        (
            Choice("random", "random connections, a share reservoir.density of all", f"{_TOPOLOGY}:RandomTopology"),
            Choice("ring", "each neuron feeds the next one", f"{_TOPOLOGY}:Ring"),
            Choice(
                "small-world",
                "ring with a share of its connections rewired (reservoir.rewiring)",
                f"{_TOPOLOGY}:SmallWorld",
                keys=("reservoir.rewiring",),
            ),
            Choice(
                "cycle-jumps",
                "ring with jumps of reservoir.jump neurons",
                f"{_TOPOLOGY}:CycleJumps",
                keys=("reservoir.jump",),
            ),
        ),
    ),
    ChoiceTable(
        "reservoir.weights",
        (
            Choice("uniform", "uniform in [-1, 1]"),
            Choice("normal", "standard normal"),
            Choice("bernoulli", "-1 or 1"),
            Choice("orthogonal", "random orthogonal matrix"),
        ),
    ),
    ChoiceTable(
        "reservoir.input_weights",
        (
            Choice("uniform", "uniform in [-1, 1]"),
            Choice("normal", "standard normal"),
            Choice("bernoulli", "-1 or 1"),
        ),
    ),
    ChoiceTable(
        "reservoir.series_scaling",
        (
            Choice("none", "not at all"),
            Choice("standard", "each feature to mean 0 and standard deviation 1 over the series' own steps"),
        ),
    ),
    ChoiceTable(
        "reservoir.scans",
        (
            Choice("forward", "from the first step to the last"),
            Choice("backward", "from the last step to the first"),
            Choice("rows", "the rows of sequence = both"),
            Choice("columns", "the columns of sequence = both"),
            Choice("rows-backward", "the rows of sequence = both, from the last to the first"),
            Choice("columns-backward", "the columns of sequence = both, from the last to the first"),
        ),
    ),
    ChoiceTable(
        "reservoir.sequence",
        (
            Choice("rows", "a row of the image, or a time step of the series, is a step"),
            Choice("columns", "a column of the image is a step"),
            Choice("both", "a row and a column of a square image together are a step"),
            Choice("patches", "a patch of the image is a step (reservoir.piece_size)", keys=_PIECES),
            Choice("windows", "a window of time steps is a step (reservoir.piece_size)", keys=_PIECES),
            Choice("channels", "a colour channel is a step"),
            Choice("pixels", "a pixel is a step"),
        ),
    ),
    ChoiceTable(
        "reservoir.piece_edge",
        (
            Choice("refuse", "refuse a size that leaves rows, columns or time steps over"),
            Choice("drop", "leave them out"),
        ),
    ),
    ChoiceTable(
        "reservoir.reduction",
        (
            Choice(
                "states",
                "some states: reservoir.states or reservoir.steps",
                f"{_REDUCTIONS}.spaced:States",
                keys=("reservoir.states", "reservoir.steps"),
            ),
            Choice("all", "the state of every step, alone", f"{_REDUCTIONS}.every:All"),
            Choice("last", "the state after the last step", f"{_REDUCTIONS}.spaced:Last"),
            Choice("mean", "mean over the steps", f"{_REDUCTIONS}.moments:Mean"),
            Choice("std", "standard deviation over the steps", f"{_REDUCTIONS}.moments:Std"),
            Choice("mean_std", "mean and standard deviation over the steps", f"{_REDUCTIONS}.moments:MeanStd"),
            Choice(
                "segments",
                "means over equal parts of the steps (reservoir.segments)",
                f"{_REDUCTIONS}.segments:Segments",
                keys=("reservoir.segments",),
            ),
            Choice("positive", "share of the steps with a state above 0", f"{_REDUCTIONS}.positive:Positive"),
            Choice("max", "largest state over the steps", f"{_REDUCTIONS}.largest:Max"),
        ),
    ),
    ChoiceTable(
        "search.method",
        (
            Choice("optimizer", "search.optimizer proposes candidates within search.space"),
            Choice(
                "select",
                "evaluate each state set once; search.optimizer then starts from the best if search.generations > 0",
                keys=("search.state_sets",),
            ),
        ),
    ),
    ChoiceTable(
        "search.evaluation",
        (
            Choice("ridge", "solve the readout by ridge regression"),
            Choice("train", "train the readout for search.epochs epochs, or solve it (elm)", keys=("search.epochs",)),
            Choice("function", "call your own function (search.function)", keys=("search.function",)),
        ),
    ),
    ChoiceTable(
        "search.device",
        (
            Choice("auto", "the GPU of the rank if it is faster for this number and size of candidates"),
            Choice("cpu", "the processor"),
            Choice("gpu", "the GPU of the rank"),
        ),
    ),
    ChoiceTable(
        "readout.ridge_selection",
        (
            Choice("auto", "left_out for few rows, validation for many"),
            Choice(
                "left_out",
                "by the error of every original row, left out of the fit (states of all rows in memory of rank 0)",
            ),
            Choice("validation", "by the error on the validation rows"),
        ),
    ),
    ChoiceTable(
        "readout.bands",
        (
            Choice("joined", "one machine reads all features"),
            Choice("separate", "one machine for each band, and the mean of their scores"),
        ),
    ),
    ChoiceTable(
        "readout.member_rows",
        (
            Choice("all", "all rows; members differ by their random weights (elm)"),
            Choice(
                "under_sampled",
                "all rows of the smallest class and as many of each other class, drawn for each member",
                keys=("readout.member_ratio",),
            ),
        ),
    ),
    ChoiceTable(
        "readout.ridge_precision",
        (
            Choice("double", "float64"),
            Choice("single", "float32"),
        ),
    ),
    ChoiceTable(
        "training.tree_baseline",
        (
            Choice("auto", "for tables of at most 5 million rows x features x classes, some 15 seconds of one core"),
            Choice("always", "for every table"),
            Choice("never", "for none"),
        ),
    ),
    ChoiceTable(
        "loss.class_weights",
        (
            Choice("none", "every row counts the same"),
            Choice("balanced", "every class counts the same, without changing the rows as data.balance does"),
            Choice(
                "effective",
                "between the two: by the effective number of samples of a class (loss.effective_beta)",
                keys=("loss.effective_beta",),
            ),
        ),
    ),
    ChoiceTable(
        "optimizer.rate_scaling",
        (
            Choice("none", "no change"),
            Choice("sqrt", "times the square root of the number of ranks (with global_batch: of global_batch / batch)"),
            Choice("linear", "times the number of ranks (with global_batch: global_batch / batch)"),
        ),
    ),
    ChoiceTable(
        "training.on_nan",
        (
            Choice("stop", "end the training"),
            Choice("skip", "leave the step out and halve the learning rate"),
        ),
    ),
    ChoiceTable(
        "prediction.calibration",
        (
            Choice("auto", "temperature or vector, by the log loss of left-out rows; none if there are few rows"),
            Choice("none", "probabilities stay as they are"),
            Choice("temperature", "one factor of all scores"),
            Choice("vector", "a factor and an offset of the score of each class"),
            Choice("isotonic", "a rising function of the score of each class; needs many rows, cannot be exported"),
        ),
    ),
    ChoiceTable(
        "pruning.method",
        (
            Choice(
                "magnitude",
                "those with the largest squares, each relative to the larger ones of its matrix",
                keys=("pruning.keep", "pruning.every"),
            ),
            Choice("l0", "by random gates that are trained with the weights", keys=("pruning.l0_penalty",)),
        ),
    ),
    ChoiceTable(
        "parallel.replicas",
        (
            Choice("synchronised", "all ranks train one network"),
            Choice("averaged", "each rank trains a network on its rows; their weights are averaged"),
            Choice("ensemble", "each rank trains a network on its rows; their scores are averaged"),
        ),
    ),
    ChoiceTable(
        "parallel.batch_statistics",
        (
            Choice(
                "all", "those of all ranks: any number of ranks computes the same; a message for each layer and pass"
            ),
            Choice(
                "rank", "those of the rank: fewer messages, and steps that a GPU can record; results depend on ranks"
            ),
        ),
    ),
    ChoiceTable(
        "parallel.compression",
        (
            Choice("none", "float32"),
            Choice("fp16", "float16"),
        ),
    ),
    ChoiceTable(
        "states.precision",
        (
            Choice("kernel", "the number format of the kernel"),
            Choice("bfloat16", "16 bits"),
            Choice("float16", "16 bits"),
        ),
    ),
    ChoiceTable(
        "partition.load_balance",
        (
            Choice("equal", "the same number for every rank"),
            Choice("rank_speeds", "in proportion to partition.rank_speeds", keys=("partition.rank_speeds",)),
            Choice("measured", "in proportion to speeds measured at the start"),
        ),
    ),
    ChoiceTable(
        "training.precision",
        (
            Choice("fp32", "float32"),
            Choice("bf16", "bfloat16"),
            Choice("fp16", "float16, on GPUs only; gradients are scaled"),
        ),
    ),
    ChoiceTable(
        "training.device",
        (
            Choice("auto", "the GPU of the rank if it is faster for work of this size"),
            Choice("cpu", "the processor"),
            Choice("gpu", "the GPU of the rank"),
        ),
    ),
    ChoiceTable(
        "training.graph",
        (
            Choice("auto", "on GPUs, if nothing in the step is a class of the user's own"),
            Choice("on", "also with classes of the user's own, whose Python code then runs for the first steps only"),
            Choice("off", "no; the host asks for each operation of each step"),
        ),
    ),
    ChoiceTable(
        "training.weight_bits",
        (
            Choice(32, "float32"),
            Choice(8, "integers from -127 to 127 and a scale for each output channel; biases and norms stay float32"),
        ),
    ),
    ChoiceTable(
        "extractor.kernel_inputs",
        (
            Choice("values", "the values of the series"),
            Choice("differences", "differences between consecutive steps"),
            Choice("standardised", "the values, each series and feature brought to mean 0 and standard deviation 1"),
        ),
    ),
    ChoiceTable(
        "extractor.wavelet",
        (
            Choice("haar", "2 taps: scaled sums and differences of neighbours"),
            Choice("db2", "Daubechies' wavelet of 4 taps"),
            Choice("db4", "Daubechies' wavelet of 8 taps"),
        ),
    ),
    ChoiceTable(
        "extractor.axis",
        (
            Choice("rows", "along each row of an image, or the only axis of a sample"),
            Choice("steps", "along the steps of a series, feature by feature, or down the columns of an image"),
        ),
    ),
    ChoiceTable(
        "extractor.activation",
        (
            Choice("relu", "max(0, x)"),
            Choice("gelu", "Gaussian error linear unit"),
        ),
    ),
    ChoiceTable(
        "extractor.sequence",
        (
            Choice("rows", "a row of the map is a step"),
            Choice("positions", "a position of the map is a step"),
        ),
    ),
    ChoiceTable(
        "extractor.learning",
        (
            Choice("kmeans", "k-means on the sphere"),
            Choice("patches", "random patches as they are"),
        ),
    ),
    ChoiceTable(
        "extractor.over",
        (
            Choice("steps", "the features of every step, as reservoir.sequence cuts them; all steps in the same way"),
            Choice("sample", "all values of a sample, which become one step"),
        ),
    ),
    ChoiceTable(
        "extractor.projection",
        (
            Choice("gaussian", "normal entries"),
            Choice("sparse", "two thirds of the entries are 0, the others have one absolute value"),
        ),
    ),
    ChoiceTable(
        "extractor.method",
        (
            Choice("greedy", "the feature that costs least is eliminated until extractor.components are left"),
            Choice("genetic", "a genetic search over subsets, which starts with those that elimination leaves"),
        ),
    ),
    ChoiceTable(
        "extractor.precision",
        (
            Choice("fp32", "float32"),
            Choice("bf16", "bfloat16"),
        ),
    ),
    ChoiceTable(
        "augment.edges",
        (
            Choice("zero", "the mean"),
            Choice("reflect", "the image mirrored at its edge"),
        ),
    ),
    ChoiceTable(
        "compare.arms",
        (
            Choice("rows", "each method reads the samples as they are"),
            Choice("extractor", "each method reads the features of one convolution extractor, trained once (images)"),
        ),
    ),
)
