"""Run the stages one after the other; with mpirun, all ranks share the search and the training.

python examples/stages.py FOLDER
mpirun -n 2 python examples/stages.py FOLDER

After an interruption, the same command continues from the last checkpoint.
"""

import sys

import rcdp_hpc

SETTINGS = {
    "search": {"population": 4, "generations": 2, "train_rows": 400, "validation_rows": 200},
    "reservoir": {"nodes": 100},
    "training": {"epochs": 20},
    "run": {"seed": 1},
}


def main() -> None:
    """Prepare, search, train and evaluate, and print on rank 0 what each stage returns."""
    folder = sys.argv[1]
    comm = rcdp_hpc.connect()
    config = rcdp_hpc.load_config("digits", **SETTINGS)
    rows = rcdp_hpc.prepare(config, folder, comm)
    winner = rcdp_hpc.search(config, folder, comm)
    trained = rcdp_hpc.train(config, folder, comm)
    scores = rcdp_hpc.evaluate(config, folder, comm)
    if comm.is_root:
        print(f"{comm.size} ranks, {rows['train']} training rows")
        print(f"search: {winner['evaluations']} evaluations, least validation error {winner['error']:.4f}")
        print(", ".join(f"{name} {value:.3g}" for name, value in winner["values"].items()))
        print(f"training: {trained['epochs']} epochs, best epoch {trained['best_epoch']}")
        print(f"test: {scores['correct']} of {scores['samples']} correct")


if __name__ == "__main__":
    main()
