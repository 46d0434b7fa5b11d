"""Propose expectations from data that were good. N objects, m of them sampled."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import yaml
from scipy import stats

from hpctrain.expectations.drift import rounding_step
from hpctrain.expectations.look import Looked
from hpctrain.expectations.section import FORMAT, DriftSection, SkySection
from hpctrain.expectations.tally import Tally
from hpctrain.kinds.leaks import has_name_of_id
from hpctrain.kinds.spectra.noise import judge_noise

NUM_QUANTILES = 21
SLACK = 1.5
"""A share may grow by this factor, even where the number of objects would show less."""
CONFIDENCE = 0.999
"""Confidence of the upper limit of a share in good data."""
MOST_NUMBERED_CLASSES = 20
"""A column of whole numbers with at most so many values has classes."""
FEWEST_PER_CELL = 20
_TAIL = 0.005
_TIMES = re.compile(r"(^|[_/])(t?mjd|b?jd|hjd|tai|time|date|night|epoch|expid|exposure)([_/]|$)", re.IGNORECASE)
_KNOTS = 17
_HEAD = """\
# What data must be like: proposed by `hpctrain data expect` from good data. Change what you know better.
# `hpctrain data validate FILE... --against THIS` checks new data. `hpctrain docs data-validation` explains each key.
"""

Plain = dict[str, Any]


def allowed_share(number: int, of: int) -> float:
    """Return the largest share that new data may have of what `number` of `of` good objects have.

    It is 1.5 times the share, or the upper limit of a 99.9 % confidence interval if that is more.

    References
    ----------
    .. [1] Clopper and Pearson 1934, Biometrika 26, 404.
    """
    if not of or number >= of:
        return 1.0
    upper = float(stats.beta.ppf(CONFIDENCE, number + 1, of - number))
    return _up(min(1.0, max(SLACK * number / of, upper)))


def propose(looked: Looked) -> Plain:
    """Return expectations as plain values, in the order in which the file has them."""
    columns = {name: _column(name, tally, looked) for name, tally in looked.tallies.items()}
    for source in looked.sources:
        for name, declared in source.declared.items():
            if name not in looked.tallies:
                columns.setdefault(name, _declared(declared))
    found: Plain = {
        "format": FORMAT,
        "version": 1,
        "kind": looked.sources[0].kind,
        "files": [str(source.path) for source in looked.sources[:20]],
        "objects": looked.num_rows,
        "false_alarms": 0.01,
        "rows": {"min": max(1, min(looked.rows_of_files) // 2), "max": 2 * looked.num_rows},
        "other_columns": "allow",
        "ids": _ids(looked),
        "sky": _sky(looked),
        "grid": _grid(looked),
        "errors": _errors(looked),
        "drift": DriftSection().model_dump(),
        "columns": columns,
    }
    return {key: value for key, value in found.items() if value is not None}


def as_yaml(expectations: Plain) -> str:
    """Return expectations as the text of a file."""
    text = yaml.safe_dump(expectations, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)
    return _HEAD + text


def _declared(declared: Any) -> Plain:
    found = {"dtype": declared.dtype, "shape": list(declared.shape) or None, "unit": declared.unit}
    return {key: value for key, value in found.items() if value is not None}


def _column(name: str, tally: Tally, looked: Looked) -> Plain:
    declared = looked.declared(name)
    found: Plain = {"type": tally.type if tally.type != "mixed" else "text"}
    if declared is not None and declared.dtype is not None:
        found |= _declared(declared)
    found["missing"] = allowed_share(tally.missing.number, tally.num_rows)
    if name == looked.id_column or has_name_of_id(name) or _TIMES.search(name):
        return {**found, "drift": False}
    if tally.type == "text" or tally.type == "mixed":
        return {**found, **_classes(tally)}
    values = looked.sample[name]
    values = values[np.isfinite(values)]
    sentinels, values = _sentinels(tally, values)
    if sentinels:
        found["sentinels"] = sentinels
    if not len(values):
        return found
    if tally.type in ("whole", "flag") and len(np.unique(values)) <= MOST_NUMBERED_CLASSES and len(values) > 200:
        return {**found, **_numbered_classes(values)}
    if name in (looked.sky_columns or ()):
        # The section sky says more.
        ends = [-180.0, 360.0] if name == looked.sky_columns[0] else [-90.0, 90.0]
        return {**found, "range": ends, "outside": 0.0, "drift": False}
    return {**found, **_range(values, tally), **_distribution(name, values, looked)}


def _sentinels(tally: Tally, values: np.ndarray) -> tuple[list[Plain], np.ndarray]:
    """Return the usual sentinels that lie apart from all other values, and the values without them."""
    usual = np.array(sorted(tally.sentinels))
    if not len(usual):
        return [], values
    close = np.isclose(values[:, None], usual, rtol=1e-7, atol=0).any(axis=1)
    bulk = values[~close]
    low, high = np.quantile(bulk, (0.01, 0.99)) if len(bulk) else (0.0, 0.0)
    margin = 0.5 * (high - low)
    apart = [value for value in usual.tolist() if not len(bulk) or not low - margin <= value <= high + margin]
    found = [{"value": value, "share": allowed_share(tally.sentinels[value], tally.num_rows)} for value in apart]
    return found, values[~np.isclose(values[:, None], np.array(apart), rtol=1e-7, atol=0).any(axis=1)]


def _range(values: np.ndarray, tally: Tally) -> Plain:
    """Return a range that reaches half the width of 99 % of the values beyond them, and the share outside it."""
    low, high = np.quantile(values, (_TAIL, 1 - _TAIL))
    margin = 0.5 * (high - low)
    step = rounding_step(np.array([low, high]))
    bottom, top = _to_step(low - margin, step, np.floor), _to_step(high + margin, step, np.ceil)
    if tally.low >= 0 > bottom:
        bottom = 0.0
    outside = int(np.count_nonzero((values < bottom) | (values > top)))
    return {"range": [bottom, top], "outside": allowed_share(outside, len(values))}


def _distribution(name: str, values: np.ndarray, looked: Looked) -> Plain:
    quantiles = np.quantile(values, np.linspace(0, 1, NUM_QUANTILES))
    step = rounding_step(quantiles)
    found: Plain = {"quantiles": [_to_step(value, step, np.round) for value in quantiles.tolist()]}
    largest = _distance_of_files(looked.sample[name], looked.sample_files)
    if largest > DriftSection().distance:
        found["distance"] = min(1.0, _up(largest))
    return found


def _distance_of_files(values: np.ndarray, files: np.ndarray) -> float:
    """Return 1.5 times the largest distance of a good file from the others, beyond what chance explains."""
    good = np.isfinite(values)
    largest = 0.0
    numbers = np.unique(files[good])
    for number in numbers if len(numbers) > 1 else ():
        own, others = values[good & (files == number)], values[good & (files != number)]
        if len(own) > 50:
            found = stats.ks_2samp(own, others, method="asymp").statistic
            largest = max(largest, found - 1.36 * np.sqrt(1 / len(own) + 1 / len(others)))
    return SLACK * largest


def _classes(tally: Tally) -> Plain:
    known = {text: number for text, number in (tally.classes or {}).items() if text}
    if not known or 2 * len(known) > tally.num_rows:
        return {"drift": False}
    total = sum(known.values())
    ordered = sorted(known.items(), key=lambda item: -item[1])
    shares = {text.decode("utf-8", "replace"): _rounded(number / total) for text, number in ordered}
    return {"classes": shares, "other_classes": allowed_share(list(known.values()).count(1), total)}


def _numbered_classes(values: np.ndarray) -> Plain:
    found, counts = np.unique(values, return_counts=True)
    shares = {str(int(value)): _rounded(count / len(values)) for value, count in zip(found, counts, strict=True)}
    return {"classes": shares, "other_classes": allowed_share(int((counts == 1).sum()), len(values))}


def _ids(looked: Looked) -> Plain:
    num, repeated, _ = looked.rows.found()
    found: Plain = {"repeated_rows": allowed_share(repeated, num) if repeated else 0.0}
    if looked.id_column is not None:
        num, repeated, _ = looked.ids.found()
        if 2 * repeated < num:
            found |= {"column": looked.id_column, "repeated": allowed_share(repeated, num) if repeated else 0.0}
    return dict(sorted(found.items()))


def _sky(looked: Looked) -> Plain | None:
    total = int(looked.sky.sum())
    if looked.sky_columns is None or not total:
        return None
    fewest = min(looked.rows_of_files)
    nside = 16
    while nside > 1 and fewest < FEWEST_PER_CELL * np.count_nonzero(looked.cells(nside)):
        nside //= 2
    counts = looked.cells(nside)
    lost, outside = _sky_of_files(looked, nside)
    return {
        "ra": looked.sky_columns[0],
        "dec": looked.sky_columns[1],
        "nside": nside,
        "cells": np.flatnonzero(counts).tolist(),
        "counts": counts[counts > 0].tolist(),
        "outside": max(allowed_share(int((counts == 1).sum()), total), min(1.0, _up(SLACK * outside))),
        "lost": max(SkySection.model_fields["lost"].default, min(1.0, _up(SLACK * lost))),
    }


def _sky_of_files(looked: Looked, nside: int) -> tuple[float, float]:
    """Return the largest shares, over good files, of objects of the others in cells it lacks, and of its own in new."""
    from astropy import units
    from astropy_healpix.core import lonlat_to_healpix

    ra, dec = (looked.sample[name] for name in looked.sky_columns or ())
    good = np.isfinite(ra) & (np.abs(dec) <= 90)
    cells = np.asarray(lonlat_to_healpix(ra[good] * units.deg, dec[good] * units.deg, nside, order="nested"), int)
    files = looked.sample_files[good]
    numbers = np.unique(files)
    lost = outside = 0.0
    for number in numbers if len(numbers) > 1 else ():
        own, others = (np.bincount(cells[part], minlength=12 * nside**2) for part in (files == number, files != number))
        lost = max(lost, others[own == 0].sum() / others.sum())
        outside = max(outside, own[others == 0].sum() / own.sum())
    return lost, outside


def _grid(looked: Looked) -> Plain | None:
    grids = [source.grid for source in looked.sources]
    if grids[0] is None:
        return None
    places = np.linspace(0, len(grids[0]) - 1, min(_KNOTS, len(grids[0]))).astype(int)
    return {"pixels": len(grids[0]), "knots": [float(f"{value:.9g}") for value in grids[0][places].tolist()]}


def _errors(looked: Looked) -> Plain | None:
    sample = noise_sample(looked)
    noise = judge_noise(*sample) if sample is not None else None
    if noise is None:
        return None
    return {"held_as": noise.looks_like, "departure_dex": round(noise.departure_dex, 3)}


def noise_sample(looked: Looked) -> tuple[np.ndarray, np.ndarray] | None:
    """Return flux and ivar of some hundred spectra, (m, L) each; None without spectra of one length."""
    found = [part for source in looked.sources for part in source.noise_sample][:1024]
    if not found or len({flux.shape[1] for flux, _ in found}) > 1:
        return None
    return np.concatenate([flux for flux, _ in found]), np.concatenate([ivar for _, ivar in found])


def _to_step(value: float, step: float, how: Any) -> float:
    """Return a number that is rounded to a multiple of a step; `how` is numpy's round, floor or ceil."""
    return float(f"{how(value / step) * step:.15g}") if step else float(value)


def _rounded(share: float) -> float:
    return float(f"{share:.4g}")


def _up(share: float) -> float:
    """Return a share of two digits that is not smaller."""
    if share <= 0:
        return 0.0
    step = 10.0 ** (np.floor(np.log10(share)) - 1)
    return float(f"{np.ceil(share / step - 1e-9) * step:.2g}")
