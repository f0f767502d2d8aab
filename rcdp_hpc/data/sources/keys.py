"""Names of arrays in a file (npz, npy, hdf5), and the role of each array."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from rcdp_hpc.data.sources.findings import Findings
from rcdp_hpc.errors import InputError

# Names by which the role of an array is recognised, in any case, with or without "_", "-" and blanks. The first name is
# the role.
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
    """Assign the arrays of a file to roles: samples, labels, lengths and ids.

    Parameters
    ----------
    where : str
        The file, for messages.
    names : sequence of str
        Names of the arrays.
    findings : Findings
        Receives arrays with other names than their role, and arrays that are not read.
    roles : iterable of str
        Roles to assign, keys of `NAMES`. Arrays of other roles are ignored and not recorded.
    taken : iterable of str
        Names that already have a role.

    Returns
    -------
    dict
        The name of the array of each role that was found.

    Raises
    ------
    InputError
        If two arrays can have the same role.
    """
    wanted, taken = set(roles), set(taken)
    by_role: dict[str, str] = {}
    for role in NAMES:
        matches = [name for name in names if name not in taken and _plain(name) in _PLAIN[role]]
        exact = [name for name in matches if name.lower() == role]
        if len(exact or matches) > 1 and role in wanted:
            raise InputError(f"{where}: {' and '.join(exact or matches)} could each be {role}: rename or remove one.")
        if matches:
            by_role[role] = (exact or matches)[0]
    used = {*by_role.values(), *taken}
    for name in names:
        if name not in used:
            findings.leave_out(f"arrays of {where} whose names are unknown", example=name)
    assigned = {role: name for role, name in by_role.items() if role in wanted}
    other = [f"{name} is {role}" for role, name in assigned.items() if name.lower() != role]
    if other:
        findings.assumed.append(f"{where}: {', '.join(other)}")
    return assigned


def group_roles(where: str, name: str, names: Iterable[str]) -> dict[str, str]:
    """Return the array of groups and, if there is one, that of a separate test set, by their roles.

    Parameters
    ----------
    where : str
        The file, for messages.
    name : str
        ``data.group_name``; empty: no groups are read.
    names : iterable of str
        Names of the arrays.

    Raises
    ------
    InputError
        If there is no array of this name.
    """
    if not name:
        return {}
    found = list(names)
    if name not in found:
        raise InputError(f"{where}: no array {name!r} (data.group_name); found {', '.join(found) or 'no array'}.")
    return {"groups": name, **({"groups_test": f"{name}_test"} if f"{name}_test" in found else {})}


def missing_key(where: str, role: str, shapes: Mapping[str, str], hint: str = "") -> InputError:
    """Return the error for a missing array, with the names and shapes of the arrays in the file."""
    content = ", ".join(f"{name} {shape}".rstrip() for name, shape in shapes.items()) or "no array"
    examples = ", ".join(NAMES[role][1:6])
    return InputError(
        f"{where}: no array {role} ({'samples' if role.startswith('x') else 'labels'}); found {content}. Name it "
        f"{role} (also recognised: {examples}, in any case, with or without '_').{hint}"
    )


def _plain(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


def role_of(name: str) -> str:
    """Return the role of an array with this name; empty if the name is unknown."""
    return next((role for role, known in _PLAIN.items() if _plain(name) in known), "")


_PLAIN = {role: {_plain(name) for name in names} for role, names in NAMES.items()}
