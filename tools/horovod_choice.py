"""Whether `make setup` builds Horovod, and what it records and reports if it does not.

Horovod is optional: without it, several ranks train with torch.distributed. A build can take minutes, so a failed one
is repeated only if something has changed that may make it succeed, or if the user asks.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

VARIABLE = "RCDP_HOROVOD"
# Values of the variable. Without it, Horovod is built, and if that fails, the setup continues.
LEFT_OUT, REQUIRED = "0", "1"


@dataclasses.dataclass(frozen=True)
class Omission:
    """Why an environment has no Horovod. Stored in the environment, for the next setup.

    `failed` has a digest of what each failed build depended on; it is empty if the user asked for no build. `wheels` is
    the folder of the wheel cache in which another setup may put a wheel that fits; "" if it is unknown.
    """

    reason: str
    remedy: str = ""
    log: str = ""
    failed: list[str] = dataclasses.field(default_factory=list)
    wheels: str = ""

    @classmethod
    def load(cls, path: Path) -> "Omission | None":
        """Return the stored reason; None if there is none, or if it was written by another version."""
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return None

    def text(self) -> str:
        """Return the content of the file."""
        return json.dumps(dataclasses.asdict(self), indent=1) + "\n"

    def note(self) -> str:
        """Return the paragraph for the user."""
        fact = f"Horovod is not installed: {self.reason}. "
        engine = "Training on several ranks uses torch.distributed (Gloo) instead. Nothing else needs Horovod. "
        if not self.failed:
            return f"{fact}{engine}To build it: {VARIABLE}={REQUIRED} make setup."
        remedy = f"What to do: {self.remedy.rstrip('.')}. " if self.remedy else ""
        log = f" The log is {self.log}." if self.log else ""
        return f"{fact}{engine}{remedy}To try again: {VARIABLE}={REQUIRED} make setup.{log}"

    def short_note(self) -> str:
        """Return the line for later setups."""
        if not self.failed:
            return f"without Horovod, as {VARIABLE}={LEFT_OUT} asked; to build it: {VARIABLE}={REQUIRED} make setup"
        return f"without Horovod: {self.reason}; to try again: {VARIABLE}={REQUIRED} make setup"


def requested(environ: Mapping[str, str]) -> str:
    """Return the value of the variable, "" if it is unset. Raises a ValueError for other values."""
    value = environ.get(VARIABLE, "").strip()
    if value not in ("", LEFT_OUT, REQUIRED):
        raise ValueError(
            f"{VARIABLE}={value}: expected {LEFT_OUT} (do not build Horovod), {REQUIRED} (build it, and stop if that "
            "fails), or no value (build it, and continue without it if that fails)"
        )
    return value


def is_wanted(request: str, omission: Omission | None, inputs: Callable[[], str]) -> bool:
    """Return whether a setup should build Horovod.

    Parameters
    ----------
    request
        The value of the variable.
    omission
        Why the environment has no Horovod; None if it has one, or is new.
    inputs
        Returns the digest of what a build depends on now. Called only after a failed build.
    """
    if request == LEFT_OUT:
        return False
    if request == REQUIRED or omission is None:
        return True
    if not omission.failed:
        return False  # the user asked for no build, and has not asked for one since
    return inputs() not in omission.failed or _has_wheel(omission.wheels)


def _has_wheel(folder: str) -> bool:
    return bool(folder) and any(Path(folder).glob("horovod-*.whl"))
