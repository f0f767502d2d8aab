"""Values of the demonstration profile that are for its own data, and are left out when it is used for other data."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

log = logging.getLogger(__name__)

DEMO = "digits"
# How the digits are thinned out and cut.
OWN_DATA = (("data", "class_keep_fractions"), ("reservoir", "sequence"), ("reservoir", "states"))


def demo_on_other_data(tree: Mapping[str, Any], overrides: Iterable[str]) -> str:
    """Return the ``data.source`` that overrides name instead of the digits that `tree` is for; empty if none."""
    data = tree.get("data")
    if not isinstance(data, Mapping) or data.get("source") != DEMO:
        return ""
    found = DEMO
    for override in overrides:
        key, _, value = override.partition("=")
        if key.strip() == "data.source":
            found = value.strip().strip("'\"")
    return "" if found == DEMO else found


def without_demo_values(tree: dict[str, Any], demo: Mapping[str, Any]) -> tuple[str, ...]:
    """Take out of a configuration the values that the demonstration has for its own data.

    A value that differs from the demonstration's is the user's own, and stays.

    Parameters
    ----------
    tree : dict
        Settings of the profile, or of a file that may be a copy of it; changed in place.
    demo : mapping
        Settings of the profile.

    Returns
    -------
    tuple of str
        The dotted keys that were taken out.
    """
    left_out = []
    for section, key in OWN_DATA:
        settings = tree.get(section)
        if isinstance(settings, dict) and key in settings and settings[key] == demo[section][key]:
            del tree[section][key]
            left_out.append(f"{section}.{key}")
    return tuple(left_out)


@cache  # a command may read its configuration several times
def report_left_out(name: str, source: str, left_out: tuple[str, ...]) -> None:
    """Log what was left out of the configuration `name` because other data are used."""
    if left_out:
        log.info(
            "configuration %s with data.source = '%s': %s of the digits demonstration left out, which are for its own "
            "data",
            *(name, source, ", ".join(left_out)),
        )
