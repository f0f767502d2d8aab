"""Libraries that a stage needs."""

from __future__ import annotations

from rcdp_hpc.errors import InputError
from rcdp_hpc.runtime.comm.collective import agreed


def require_torch() -> None:
    """Raise an `InputError` if torch cannot be imported. Called before a stage imports code that needs it."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise agreed(
            InputError(
                f"this stage needs torch, which cannot be imported ({error}). Run `make setup` in the checkout, or "
                "install the extra: pip install 'rcdp_hpc[torch]'. `rcdp doctor` shows what is missing."
            )
        ) from None
