"""Names of the columns with statistics of light curves, which ``hpctrain ingest light-curves --statistics`` writes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hpctrain.preprocess.statistics import STATISTICS

PERIOD, POWER = "ls_period", "ls_power"
"""Columns: the best period [day], and its power, 0 to 1; NaN where a curve has too few points."""

PREFIX = "stat_"

NUM_HARMONICS = 4
"""Sines that are fitted to a curve, with its period and with twice its period."""

LEVELS = ("mean", "weighted_mean", "median", "mean_variance", "excess_variance")
"""Statistics that depend on the zero point of the values: how bright an object appears is not what it is."""

SHAPES = tuple(name for name in STATISTICS if name not in LEVELS)
"""Statistics of :mod:`hpctrain.preprocess.statistics` that become columns."""

LEVEL_COLUMNS = (*(PREFIX + name for name in LEVELS),)
"""Columns that every curve has, and that a model reads only where ``data.features`` names them."""

PLAIN = (*(PREFIX + name for name in (*SHAPES, "mean_error", "signal_to_noise")),)
"""Columns that every curve has."""

_HARMONICS = (
    *(f"amplitude_{number}" for number in range(1, NUM_HARMONICS + 1)),
    *(f"phase_{number}" for number in range(2, NUM_HARMONICS + 1)),
    "amplitude_ratio",
    "residual",
    "folded_scatter",
)
PERIODIC = (
    PERIOD,
    POWER,
    *(PREFIX + name for name in ("period_2", "power_2", "period_3", "power_3")),
    *(PREFIX + name for name in _HARMONICS),
    *(f"{PREFIX}double_{name}" for name in _HARMONICS),
)
"""Columns that follow from the period of a curve: two more periods, and harmonics of the period and of its double."""


def band_columns(band: str) -> tuple[str, str]:
    """Return the columns of one of several bands: its mean minus that of the curve, and its scatter."""
    return f"{PREFIX}offset_{band}", f"{PREFIX}scatter_{band}"


def statistics_columns(statistics: str, bands: Sequence[str]) -> tuple[str, ...]:
    """Return the columns that a model reads.

    Parameters
    ----------
    statistics : str
        ``data.statistics``: ``none``, ``plain`` or ``periodic``.
    bands : sequence of str
        Bands that it reads.
    """
    if statistics == "none":
        return ()
    of_bands = [name for band in bands for name in band_columns(band)] if len(bands) > 1 else []
    return (*PLAIN, *of_bands, *(PERIODIC if statistics == "periodic" else ()))


def has_statistics(columns: Iterable[str]) -> bool:
    """Return whether statistics of whole curves are among the columns."""
    return any(name == PERIOD or name.startswith(PREFIX) for name in columns)
