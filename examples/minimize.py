"""Search for the minimum of your own function; with mpirun, all ranks share the work.

python examples/minimize.py
mpirun -n 3 python examples/minimize.py
"""

import math

import rcdp_hpc

SPACE = {
    "x": (-2.0, 2.0),
    "y": (1e-3, 10.0, "log"),
    "steps": (1, 8, "integer"),
    "kind": {"choices": ["round", "flat"]},
}


def function(values: dict) -> float:
    """Return a number that is least, 0, at x = 0.5, y = 1, steps = 3 and kind = "round"."""
    distance = (values["x"] - 0.5) ** 2 + math.log10(values["y"]) ** 2
    return distance + abs(values["steps"] - 3) + (values["kind"] == "flat")


def main() -> None:
    """Minimise the function and print the result on rank 0."""
    comm = rcdp_hpc.connect()
    result = rcdp_hpc.minimize(function, SPACE, optimizer="mfo", population=20, generations=30, seed=1, comm=comm)
    if comm.is_root:
        print(f"least value {result.value!r} after {result.evaluations} calls on {comm.size} ranks")
        for name, value in result.values.items():
            print(f"  {name} = {value!r}")


if __name__ == "__main__":
    main()
