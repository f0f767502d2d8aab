"""Names of arrays in a file (npz, npy, hdf5), and what each array is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

# What an array is, and the names by which it is recognised, in any case and with or without "_", "-" and blanks. The
# first name is the package's own.
NAMES: dict[str, tuple[str, ...]] = {
    "x": (
        "x", "x_train", "train_x", "data", "features", "images", "samples", "inputs", "series", "signals", "data_train",
        "train_data", "train_features", "train_images", "train_samples",
    ),
    "y": (
        "y", "y_train", "train_y", "labels", "label", "target", "targets", "classes", "train_labels", "train_label",
        "labels_train", "train_targets",
    ),
    "x_test": ("x_test", "test_x", "test_data", "data_test", "test_features", "test_images", "test_samples"),
    "y_test": ("y_test", "test_y", "test_labels", "test_label", "labels_test", "test_targets", "test_target"),
    "lengths": (
        "lengths", "length", "seq_lengths", "seq_len", "sequence_lengths", "lengths_train", "length_train",
        "train_lengths", "len", "lens", "n_steps", "num_steps",
    ),
    "lengths_test": ("lengths_test", "length_test", "test_lengths"),
    "ids": ("ids", "id", "names", "sample_ids", "ids_train", "train_ids"),
    "ids_test": ("ids_test", "test_ids", "names_test"),
}  # fmt: skip
SAMPLES = ("x", "lengths", "ids")


def assign(
    where: str, names: Sequence[str], findings: Findings, roles: Iterable[str] = tuple(NAMES), taken: Iterable[str] = ()
) -> dict[str, str]:
    """Find out which of the arrays of a file are samples, labels, lengths and ids.

    Parameters
    ----------
    where : str
        The file, for messages.
    names : sequence of str
        Names of its arrays.
    findings : Findings
        Names other than the package's own, and arrays that are not read, are recorded here.
    roles : iterable of str
        Keys of `NAMES` that are looked for. Arrays of other roles are ignored without a word.
    taken : iterable of str
        Names that the user has given a role already.

    Returns
    -------
    dict
        The name of the array of each role that is there.

    Raises
    ------
    InputError
        If two arrays could have the same role.
    """
    wanted, taken = set(roles), set(taken)
    found: dict[str, str] = {}
    for role in NAMES:
        matches = [name for name in names if name not in taken and _plain(name) in _PLAIN[role]]
        own = [name for name in matches if name.lower() == role]
        if len(own or matches) > 1 and role in wanted:
            raise InputError(f"{where}: {' and '.join(own or matches)} could each be {role}: rename or remove one.")
        if matches:
            found[role] = (own or matches)[0]
    used = {*found.values(), *taken}
    for name in names:
        if name not in used:
            findings.leave_out(f"arrays of {where} whose names are unknown", example=name)
    kept = {role: name for role, name in found.items() if role in wanted}
    other = [f"{name} is {role}" for role, name in kept.items() if name.lower() != role]
    if other:
        findings.assumed.append(f"{where}: {', '.join(other)}")
    return kept


def missing_key(where: str, role: str, shapes: Mapping[str, str], hint: str = "") -> InputError:
    """Return the error that an array is missing, with the names and shapes of those that are there."""
    there = ", ".join(f"{name} {shape}".rstrip() for name, shape in shapes.items()) or "no array"
    known = ", ".join(NAMES[role][1:6])
    return InputError(
        f"{where}: no array {role} ({'samples' if role.startswith('x') else 'labels'}); found {there}. Name it {role} "
        f"(also recognised: {known}, in any case, with or without '_').{hint}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def role_of(name: str) -> str:
    """Return what an array of this name is; empty if the name is unknown."""
    return next((role for role, known in _PLAIN.items() if _plain(name) in known), "")


_PLAIN = {role: {_plain(name) for name in names} for role, names in NAMES.items()}
