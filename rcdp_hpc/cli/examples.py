"""Examples of every command, shown by ``--help``. A test parses all of them and runs the quick ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

# (command line, meaning)
Example = tuple[str, str]

GENERAL: Sequence[Example] = (
    ("rcdp run digits --out runs/first", "a small example, all stages"),
    ("rcdp init DATA --to my.toml", "propose a configuration for your data"),
    ("rcdp run my.toml --out runs/mine --trial", "a trial of one minute"),
    ("mpirun -n 4 rcdp run my.toml --out runs/mine", "run on 4 ranks"),
    ("rcdp predict runs/mine new.npz --to labels.csv", "label new samples"),
    ("rcdp status runs/mine", "results so far, and the next command"),
)

EXAMPLES: Mapping[str, Sequence[Example]] = {
    "run": (
        ("rcdp run digits --out runs/first", "a shipped profile"),
        ("rcdp run my.toml --out runs/mine --trial", "a trial of one minute with your data"),
        ("rcdp run my.toml --out runs/mine --set training.epochs=20", "change one key"),
        ("mpirun -n 4 rcdp run --out runs/mine", "continue on 4 ranks with the configuration of the run"),
    ),
    "prepare": (("rcdp prepare my.toml --out runs/mine", "write the shards of the data that my.toml names"),),
    "search": (
        ("mpirun -n 4 rcdp search --out runs/mine", "search on 4 ranks"),
        ("rcdp search --out runs/mine --report", "draw the results so far"),
    ),
    "train": (
        ("mpirun -n 4 rcdp train --out runs/mine", "train on 4 ranks"),
        ("rcdp train --out runs/mine --set training.epochs=50", "continue up to epoch 50"),
        ("rcdp train --out runs/mine --set training.batch=32 --restart", "start again with another batch size"),
    ),
    "evaluate": (
        ("rcdp evaluate --out runs/mine", "criteria, confusion matrix and pictures in runs/mine/report"),
        ("rcdp evaluate --out runs/mine --against runs/other", "also compared on the same test samples"),
    ),
    "crossvalidate": (
        ("rcdp crossvalidate my.toml --out runs/folds --folds 5", "five folds, one after another"),
        ("mpirun -n 5 rcdp crossvalidate my.toml --out runs/folds", "one fold on each rank"),
    ),
    "balance-check": (
        ("rcdp balance-check my.toml --out runs/balance", "whether balancing pays on these data, and what to set"),
        ("mpirun -n 4 rcdp balance-check my.toml --out runs/balance --criterion macro_f1", "on 4 ranks, by macro F1"),
    ),
    "compare": (
        (
            "rcdp compare my.toml --out runs/compared --set compare.methods=mfo,ridge",
            "two methods, with the seed of the configuration",
        ),
        ("mpirun -n 4 rcdp compare my.toml --out runs/compared --set compare.seeds=1,2,3", "all methods, three seeds"),
        ("rcdp compare --out runs/compared", "continue, with the configuration of the comparison"),
        (
            "rcdp compare paper --out runs/paper --mnist /data/mnist --cifar10 /data/cifar",
            "the tables and figures of the paper, in an hour",
        ),
    ),
    "predict": (
        ("rcdp predict runs/mine new.npz --to labels.csv", "labels and probabilities as a table"),
        ("rcdp predict runs/mine new.npz --to labels.txt --format csv", "choose the format by name"),
        ("mpirun -n 4 rcdp predict runs/mine new.npz --to labels.npz", "many samples on 4 ranks"),
    ),
    "compress": (
        ("rcdp compress runs/mine --to runs/small --keep 0.1", "a tenth of the weights, trained again"),
        ("rcdp compress runs/mine --to runs/small --bits 8", "weights of 8 bits"),
    ),
    "average": (("rcdp average site1/model.pt site2/model.pt --to both.pt", "a model of two sites, weighted by rows"),),
    "export": (("rcdp export runs/mine --to model.npz", "a model for NumPy alone, and its predictor rcdp_predict.py"),),
    "merge": (("rcdp merge site-1.pt site-2.pt --to both.pt", "one model of the rows of two sites"),),
    "update": (
        ("rcdp update runs/mine new.npz --to newer.pt", "add new rows to a model"),
        ("mpirun -n 4 rcdp update runs/mine new.npz --to newer.pt", "many rows on 4 ranks"),
    ),
    "forget": (
        ("rcdp forget runs/mine patient-17 --to without.pt", "remove the rows of a patient from a model"),
        ("rcdp forget runs/mine train-00003-of-00016.h5 --to without.pt", "remove the rows of a shard"),
    ),
    "verify": (("rcdp verify runs/mine", "check the shards of a run"),),
    "status": (
        ("rcdp status runs/mine", "the stages of a run"),
        ("rcdp status runs", "all runs in a folder, one line each"),
    ),
    "report": (
        ("rcdp report runs/mine", "write runs/mine/report/index.html, which opens in any browser"),
        ("rcdp report runs/mine --to mine.html", "a file to send on"),
    ),
    "submit": (
        ("rcdp submit my.toml --out runs/mine --dry-run", "show the jobs without submitting them"),
        ("rcdp submit my.toml --out runs/mine --one-job --sbatch=--time=60", "all stages in one job of an hour"),
        ("rcdp submit my.toml --out runs/seeds --array seeds=5", "five seeds as a job array"),
        ("rcdp submit digits --out runs/compared --array cells", "a comparison, a task for each cell"),
    ),
    "plan": (("rcdp plan digits", "resources of a configuration, and lines for Slurm"),),
    "inspect": (
        ("rcdp inspect runs/mine --ranks 4", "class counts, also of the rows that each of 4 ranks would read"),
        ("rcdp inspect runs/mine --picture classes.png", "class counts as a picture"),
    ),
    "doctor": (("rcdp doctor", "check this environment"),),
    "init": (
        ("rcdp init table.csv --to my.toml", "a table with a column of labels"),
        ("rcdp init photos", "a folder with a folder of images for each class"),
    ),
    "config": (
        ("rcdp config series > my.toml", "the defaults for series; also: table, image"),
        ("rcdp config digits > my.toml", "start from a profile"),
        ("rcdp config digits --set data.source=csv --set data.path=table.csv", "with some keys changed"),
    ),
    "completion": (
        ("source <(rcdp completion bash)", "complete in this shell; for all shells, put the line into ~/.bashrc"),
        ("source <(rcdp completion zsh)", "zsh: put the line into ~/.zshrc, after compinit"),
        ("rcdp completion fish | source", "fish: put the line into ~/.config/fish/config.fish"),
    ),
    "help": (("rcdp help train", "the same as rcdp train --help"),),
}


def examples_text(examples: Sequence[Example]) -> str:
    """Return examples for the end of a help text, each with its meaning below it."""
    return "\n".join(["examples:", *(f"  {line}\n      {meaning}" for line, meaning in examples)])
