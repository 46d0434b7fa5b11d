"""Numbers: values, redshifts and angles. R rows; a residual is the predicted minus the true value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from hpctrain.validation.tasks.ordered import Median, Nmad, Sorted, Unevenness
from hpctrain.validation.tasks.scales import IDENTITY, LOG, LOG_OF_REST
from hpctrain.validation.tasks.sums import Sums, function_of_means, mean, root_mean_square, share, standard_deviation
from hpctrain.validation.tasks.task import HIGHER, LOWER, MEAN, SKEWED, ZERO, Metric, Statistic, Task, make_task

VALUE, REDSHIFT, CIRCULAR = "value", "redshift", "circular"

SPEED_OF_LIGHT_KM_S = 299_792.458
OUTLIER_LIMITS = (0.15, 0.05)
"""Residuals of redshifts, divided by 1 + z, beyond which a prediction is an outlier."""
VELOCITY_LIMITS_KM_S = (1000.0, 3000.0)
"""Velocities c |dz| / (1 + z) beyond which a redshift is wrong: those of DESI for galaxies and for quasars [km/s]."""
FEWEST_SCATTERS = 5.0
"""Outliers of values are those beyond so many robust scatters of all known rows, where the label sets no limit."""

_BRAMMER = "Brammer, van Dokkum & Coppi 2008, ApJ 686, 1503, arXiv:0807.1533, eq. 5"
_HILDEBRANDT = "Hildebrandt et al. 2010, A&A 523, A31, arXiv:1008.0658"
_DESI = "Lan et al. 2023, ApJ 943, 68, arXiv:2208.08516"
_DAWID = "Dawid 1984, JRSS A 147, 278"
_GNEITING = "Gneiting & Raftery 2007, JASA 102, 359"
_IZBICKI = "Izbicki & Lee 2017, Electronic Journal of Statistics 11, 2800, arXiv:1704.08095, eq. 7"
_MARDIA = "Mardia & Jupp 2000, Directional Statistics, Wiley, sect. 2.3"

Part = tuple[Metric, Statistic]


def number_task(
    title: str,
    kind: str,
    true: np.ndarray,
    predicted: np.ndarray,
    *,
    unit: str = "",
    outlier: float | None = None,
    period: float | None = None,
    columns: Mapping[str, np.ndarray] | None = None,
) -> Task:
    """Return the task of a number.

    Parameters
    ----------
    title : str
    kind : str
        ``value``, ``redshift`` (residuals are divided by 1 + z) or ``circular``.
    true, predicted : ndarray, shape (R,)
        NaN where there is none.
    unit : str
    outlier : float, optional
        Residual beyond which a prediction counts as an outlier, beside the limits of the kind.
    period : float, optional
        Period of ``circular``.
    columns : mapping of str to ndarray, shape (R,), optional
        ``PIT``, ``CRPS``, ``NLL``, ``CDE_LOSS``, where the model predicts a density.
    """
    true, predicted = np.asarray(true, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    residual = residual_of(kind, true, predicted, period)
    known = np.isfinite(residual)
    unit = "" if kind == REDSHIFT else unit
    parts = _circular(residual, unit, period or 1.0) if kind == CIRCULAR else _location(residual, unit)
    parts += _errors(residual, unit)
    if kind == REDSHIFT:
        parts += _redshift_outliers(residual)
    elif kind == VALUE:
        parts += [(_R2, r_squared(true, residual, known))]
    if outlier is not None or kind == VALUE:
        parts += _outliers(residual, known, outlier, unit)
    parts += _density(columns or {})
    return make_task(title, kind, known, parts, {"true": true, "predicted": predicted, "residual": residual})


def residual_of(kind: str, true: np.ndarray, predicted: np.ndarray, period: float | None = None) -> np.ndarray:
    """Return predicted minus true values, for redshifts divided by 1 + z, for angles the shorter way; (R,)."""
    apart = predicted - true
    if kind == CIRCULAR:
        period = period or 1.0
        return np.remainder(apart + 0.5 * period, period) - 0.5 * period
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = apart / (1 + true) if kind == REDSHIFT else apart
    return np.where(np.isfinite(apart), apart, np.nan)


def _location(residual: np.ndarray, unit: str) -> list[Part]:
    ordered = Sorted(residual)
    bias = Metric("bias", "bias (median)", unit, ZERO, "Median of the residuals.", (_BRAMMER,))
    shift = Metric("mean_bias", "mean residual", unit, ZERO, "Mean of the residuals.")
    nmad = Metric(
        "nmad",
        "scatter (NMAD)",
        unit,
        LOWER,
        "1.4826 times the median distance of the residuals from their median: the standard deviation of a normal "
        "distribution, which outliers do not change.",
        (_BRAMMER,),
    )
    std = Metric("scatter", "standard deviation", unit, LOWER, "Standard deviation of the residuals.")
    return [
        (bias, Median(ordered)),
        (shift, mean(residual, MEAN)),
        (nmad, Nmad(ordered)),
        (std, standard_deviation(residual)),
    ]


def _errors(residual: np.ndarray, unit: str) -> list[Part]:
    rmse = Metric("rmse", "root mean square", unit, LOWER, "Root of the mean square of the residuals.")
    mae = Metric("mae", "mean absolute error", unit, LOWER, "Mean absolute residual.")
    return [(rmse, root_mean_square(residual)), (mae, mean(np.abs(residual), SKEWED, LOG))]


_R2 = Metric(
    "r2",
    "R²",
    "",
    HIGHER,
    "Share of the variance of the true values that the predictions explain; 0 for a constant prediction.",
    ("Kvålseth 1985, The American Statistician 39, 279, eq. 1",),
)


def r_squared(true: np.ndarray, residual: np.ndarray, known: np.ndarray) -> Sums:
    """Return 1 minus the squared residuals divided by the squared distances of the truth from its mean, for rows (R,).

    References
    ----------
    .. [1] Kvålseth 1985, The American Statistician 39, 279, eq. 1.
    """
    middle = true - (float(true[known].mean()) if known.any() else 0.0)
    columns = [np.where(known, residual, 0.0) ** 2, np.where(known, middle, 0.0), np.where(known, middle, 0.0) ** 2]

    def explained(error: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
        return 1 - error / (second - first**2)

    return function_of_means(columns, known, explained, SKEWED, LOG_OF_REST)


def _redshift_outliers(residual: np.ndarray) -> list[Part]:
    known, size = np.isfinite(residual), np.abs(residual)
    found: list[Part] = []
    for limit in OUTLIER_LIMITS:
        text = f"Share of objects with |dz| / (1 + z) above {limit:g}."
        metric = Metric(f"outliers_{limit:g}", f"outliers above {limit:g}", "", LOWER, text, (_HILDEBRANDT,))
        found.append((metric, share(size > limit, known)))
    for speed in VELOCITY_LIMITS_KM_S:
        text = f"Share of objects with c |dz| / (1 + z) above {speed:g} km/s."
        metric = Metric(f"outliers_{speed:g}km_s", f"outliers above {speed:g} km/s", "", LOWER, text, (_DESI,))
        found.append((metric, share(SPEED_OF_LIGHT_KM_S * size > speed, known)))
    return found


def _outliers(residual: np.ndarray, known: np.ndarray, limit: float | None, unit: str) -> list[Part]:
    """Return the share of outliers by the limit of the label, or by the robust scatter of all rows."""
    if limit is None:
        middle = np.median(residual[known]) if known.any() else np.nan
        limit = FEWEST_SCATTERS * 1.4826 * float(np.median(np.abs(residual[known] - middle))) if known.any() else np.nan
        text = f"Share of objects with a residual above 5 robust scatters ({limit:.4g} {unit}".rstrip() + ")."
    else:
        text = f"Share of objects with a residual above {limit:g} {unit}".rstrip() + "."
    return [(Metric("outliers", "outliers", "", LOWER, text), share(np.abs(residual) > limit, known))]


def _circular(residual: np.ndarray, unit: str, period: float) -> list[Part]:
    known = np.isfinite(residual)
    angle = np.where(known, residual, 0.0) * (2 * np.pi / period)
    turns = [np.cos(angle), np.sin(angle)]
    scale = period / (2 * np.pi)
    bias = Metric("bias", "mean direction of the residuals", unit, ZERO, "Circular mean of the residuals.", (_MARDIA,))
    std = Metric("scatter", "circular scatter", unit, LOWER, "Circular standard deviation.", (_MARDIA,))

    def spread(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        return scale * np.sqrt(np.maximum(-2 * np.log(np.hypot(x, y)), 0.0))

    return [
        (bias, function_of_means(turns, known, lambda x, y: scale * np.arctan2(y, x), MEAN)),
        (std, function_of_means(turns, known, spread, SKEWED, LOG)),
    ]


_DENSITY: Sequence[tuple[str, Metric]] = (
    ("CRPS", Metric("crps", "CRPS", "", LOWER, "Mean continuous ranked probability score, in the unit that is learned.",
                    (_GNEITING,))),
    ("NLL", Metric("log_loss", "log loss", "nat", LOWER,
                   "Mean of minus the log of the predicted density at the truth, in the unit that is learned.",
                   (_GNEITING,))),
    ("CDE_LOSS", Metric("cde_loss", "CDE loss", "", LOWER,
                        "Mean of the integral of the squared density minus twice the density at the truth: the squared "
                        "distance from the true density, but for a constant.", (_IZBICKI,))),
)  # fmt: skip


def _density(columns: Mapping[str, np.ndarray]) -> list[Part]:
    """Return the metrics of predicted probability densities whose columns there are."""
    scales = {"CRPS": LOG}
    found: list[Part] = [
        (metric, mean(columns[name], SKEWED, scales.get(name, IDENTITY)))
        for name, metric in _DENSITY
        if name in columns
    ]
    if "PIT" in columns:
        text = "Largest distance of the distribution of PIT values from a uniform one (Kolmogorov-Smirnov); 0 to 1."
        metric = Metric("pit_ks", "unevenness of PIT", "", LOWER, text, (_DAWID,))
        found.append((metric, Unevenness(Sorted(columns["PIT"]))))
    return found
