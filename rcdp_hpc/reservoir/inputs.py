"""The input that drives the reservoir: the steps of a sequence, scaled series by series, with differences.

1. With ``series_scaling = "standard"`` each feature of a series is scaled to mean 0 and standard deviation 1 over the
   steps of that series. A constant feature becomes 0.
2. With ``differences`` the first differences, d_t = u_t - u_(t-1) with d_0 = 0, are appended as further features. They
   are multiplied by ``difference_scaling``, or, if that is 0, divided by their root mean square over the series.

Everything is computed in float64 and returned in float32 (float64 if the sequences are float64), in operations that
torch differentiates. Values after the end of a sequence are ignored, and 0 in the result.
"""

from __future__ import annotations

import torch
from torch import Tensor

from rcdp_hpc.config import ReservoirSection

# Numbers that are computed at a time: float64 copies of a large block would need several times its memory.
BLOCK_NUMBERS = 1 << 22


def prepare_inputs(settings: ReservoirSection, u: Tensor, lengths: Tensor | None = None) -> Tensor:
    """Return the input that drives the reservoir; `u` itself if the settings change nothing.

    Parameters
    ----------
    settings : ReservoirSection
        Uses series_scaling, differences, difference_scaling and scans.
    u : torch.Tensor, shape (batch, steps, features)
    lengths : torch.Tensor, shape (batch,), optional
        Steps of each sequence.

    Returns
    -------
    torch.Tensor, shape (batch, steps, features) or (batch, steps, 2 · features)
        See `rcdp_hpc.reservoir.kept_steps.prepared_features`. If scans read halves of the features, the differences of
        each half follow that half.
    """
    if settings.series_scaling == "none" and not settings.differences:
        return u
    rows = max(1, BLOCK_NUMBERS // max(1, u.shape[1] * u.shape[2]))
    blocks = [
        _prepare(settings, u[start : start + rows], None if lengths is None else lengths[start : start + rows])
        for start in range(0, max(1, len(u)), rows)
    ]
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks)


def _prepare(settings: ReservoirSection, u: Tensor, lengths: Tensor | None) -> Tensor:
    batch, steps, features = u.shape
    counts = torch.full((batch,), steps, device=u.device) if lengths is None else lengths
    counts = counts.double()[:, None, None]
    padding = None if lengths is None else torch.arange(steps, device=u.device)[None, :, None] >= counts
    values = _blanked(u.double(), padding)
    if settings.series_scaling == "standard":
        values = _standardised(values, counts, padding)
    if settings.differences:
        halved = features % 2 == 0 and any(scan.startswith(("rows", "columns")) for scan in settings.scans)
        form = (batch, steps, 2, features // 2) if halved else (batch, steps, 1, features)
        steps_between = _differences(values, counts, padding, settings.difference_scaling)
        values = torch.cat([values.reshape(form), steps_between.reshape(form)], dim=3).flatten(2)
    return values.to(torch.float64 if u.dtype == torch.float64 else torch.float32)


def _standardised(values: Tensor, counts: Tensor, padding: Tensor | None) -> Tensor:
    """Return values with mean 0 and standard deviation 1 over the steps of each sequence."""
    # Relative to the first step: a constant feature is then exactly 0, and its variance not a rounding error.
    shifted = _blanked(values - values[:, :1], padding)
    centred = _blanked(shifted - shifted.sum(1, keepdim=True) / counts, padding)
    return centred * _inverse_root(centred.square().sum(1, keepdim=True) / counts)


def _differences(values: Tensor, counts: Tensor, padding: Tensor | None, scaling: float) -> Tensor:
    """Return the scaled differences to the step before, 0 at the first step."""
    differences = _blanked(values - torch.cat([values[:, :1], values[:, :-1]], dim=1), padding)
    if scaling:
        return differences * scaling
    return differences * _inverse_root(differences.square().sum(1, keepdim=True) / (counts - 1).clamp_min(1))


def _blanked(values: Tensor, padding: Tensor | None) -> Tensor:
    return values if padding is None else values.masked_fill(padding, 0)


def _inverse_root(squares: Tensor) -> Tensor:
    """Return 1 / sqrt, and 0 for 0, with a finite gradient."""
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1).rsqrt(), 0)
