"""Judge some hundred spectra before training: can the data be right? This module does not import torch.

Legend: N inspected spectra, L pixels, B blocks of neighbouring pixels.

There are three questions. Does a spectrum have a redshift? Does the normalisation accept it? Does its noise, measured
by the differences of neighbouring pixels, have the variance that ``ivar`` gives? For good spectra the reduced
chi-square of these differences is 1 in every block (0.8 to 1.5 for SDSS and DESI). If the column holds sigma or the
variance instead, another power of it gives 1; if flux and ``ivar`` are in different units, the result is far from 1.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from hpctrain.kinds.spectra.noise import Noise, judge_noise
from hpctrain.kinds.spectra.norm import choose_window, clean, find_norm, observed_window
from hpctrain.kinds.spectra.redshift import LOWEST_REDSHIFT
from hpctrain.profile.inspection import ERROR, NOTE, WARNING, Inspection, Remark
from hpctrain.samples.probe import NEIGHBOURS, choose_sample

if TYPE_CHECKING:
    from hpctrain.kinds.spectra.hdf5 import SpectraSet
    from hpctrain.kinds.spectra.section import SpectraSection

MANY_REJECTED = 0.5
"""Share of rejected spectra above which something is probably wrong."""

_DOUBTFUL, _HOPELESS = 2.0, 8.0
"""Departures of the variance [dex] that are doubtful, and impossible: sigma is wrong by factors of 10 and 10,000."""

_UNITS = {10.0: "nanometres", 1e4: "micrometres"}
"""Factors to Angstrom, with the names of the units."""

_ANYWAY = "If the data are right all the same, set data.implausible: warn."

_REASONS = {
    "masked": "fully masked",
    "window": "no window of data.normalise.windows_aa within the observed range",
    "signal": "signal to noise ratio of the median flux below data.normalise.min_snr",
}


def inspect_spectra(spectra: SpectraSet, rows: np.ndarray, data: SpectraSection) -> Inspection:
    """Judge spectra by a sample that is the same each time.

    Parameters
    ----------
    spectra : SpectraSet
    rows : ndarray, shape (M,), int64
        Rows to judge, usually those of the training set; at least one.
    data : SpectraSection
        Section whose ``normalise`` and ``implausible`` are used.

    Returns
    -------
    Inspection

    Raises
    ------
    DataError
        A row cannot be read.
    """
    found = Inspection(num_spectra=len(rows))
    _look_at_classes(spectra, rows, found)
    has_redshift = spectra.usable(rows)
    if not has_redshift.any():
        found.remarks.append(_no_redshift(len(rows)))
        return found
    if np.count_nonzero(~has_redshift) > MANY_REJECTED * len(rows):
        found.remarks.append(_few_redshifts(np.count_nonzero(~has_redshift), len(rows)))
    sample = _read(spectra, choose_sample(rows[has_redshift]))
    noise = judge_noise(sample.flux, sample.ivar)
    reasons = _reject(sample, data)
    found.num_inspected, found.num_rejected = len(sample.flux), sum(reasons.values())
    if reasons:
        found.remarks.append(_rejected(reasons, sample, data, noise))
    if found.num_rejected < found.num_inspected and noise is not None:
        found.remarks += _implausible(noise, ERROR if data.implausible == "error" else WARNING)
    return found


def _look_at_classes(spectra: SpectraSet, rows: np.ndarray, found: Inspection) -> None:
    """Count redshift warnings, stars and sky fibres, if the files have such columns."""
    zwarn = spectra.read_column(("zwarn", "ZWARN", "ZWARNING"), "iu")
    classes = spectra.read_column(("spectype", "SPECTYPE", "CLASS"), "S")
    if zwarn is not None and (zwarn >= 0).any():
        found.num_zwarn = int((zwarn[rows] > 0).sum())
        if found.num_zwarn:
            text = (
                f"{found.num_zwarn:,} of {len(rows):,} spectra have a redshift warning (ZWARN is not 0): their "
                "redshifts may be wrong. `hpctrain ingest ... --zwarn good` leaves them out."
            )
            found.remarks.append(Remark(NOTE, "zwarn", text))
    if classes is None:
        return
    classes = np.char.upper(np.char.strip(classes[rows]))
    found.num_stars, found.num_sky = (int((classes == name).sum()) for name in (b"STAR", b"SKY"))
    for count, what in ((found.num_stars, "stars"), (found.num_sky, "sky fibres")):
        if 0 < count < len(rows):
            text = (
                f"{count:,} of {len(rows):,} spectra are {what} by their class. "
                "`hpctrain ingest ... --spectype QSO,GALAXY` leaves them out."
            )
            found.remarks.append(Remark(NOTE, what.replace(" ", "-"), text))


@dataclass(frozen=True)
class _Sample:
    """Spectra in memory, cleaned: flux and ivar (N, L) float32, wavelength [AA] (L,) or (N, L), redshift (N,)."""

    flux: np.ndarray
    ivar: np.ndarray
    wavelength_aa: np.ndarray
    redshift: np.ndarray


def _read(spectra: SpectraSet, rows: np.ndarray) -> _Sample:
    # Read small pieces: the buffers of the reader stay as large as the largest piece.
    batches = [spectra.read(rows[start : start + 2 * NEIGHBOURS]) for start in range(0, len(rows), 2 * NEIGHBOURS)]
    joined = [
        np.concatenate([getattr(batch, name).float().numpy() for batch in batches])
        for name in ("flux", "ivar", "redshift")
    ]
    grids = [batch.wavelength_aa.numpy() for batch in batches]
    flux, ivar = clean(joined[0], joined[1])
    return _Sample(flux, ivar, grids[0] if grids[0].ndim == 1 else np.concatenate(grids), joined[2])


def _reject(sample: _Sample, data: SpectraSection) -> Counter[str]:
    """Count the spectra that the normalisation rejects, by the keys of `_REASONS`."""
    is_masked = ~(sample.ivar > 0).any(axis=1)
    if data.needs_redshift:
        windows, min_snr = data.normalise.windows_aa, data.normalise.min_snr
        _, window = find_norm(sample.flux, sample.ivar, sample.wavelength_aa, sample.redshift, windows, min_snr)
        has_window = choose_window(sample.wavelength_aa, sample.redshift, windows) >= 0
    else:
        window, has_window = observed_window(sample.flux, sample.ivar, sample.wavelength_aa, data.normalise)
    counts = Counter(
        masked=int(is_masked.sum()),
        window=int((~is_masked & ~has_window).sum()),
        signal=int((~is_masked & has_window & (window < 0)).sum()),
    )
    return +counts


def _no_redshift(num_rows: int) -> Remark:
    text = (
        f"None of the {num_rows:,} spectra has a redshift (a finite number above {LOWEST_REDSHIFT}), so none carries "
        "weight. Name the column that holds redshifts with data.columns.redshift, or ingest the spectra again with "
        "their redshift tables: `hpctrain ingest desi ... --redshifts TABLE`."
    )
    return Remark(ERROR, "no-redshift", text, "data.columns.redshift")


def _few_redshifts(num_without: int, num_rows: int) -> Remark:
    text = (
        f"{num_without:,} of {num_rows:,} spectra have no redshift and carry no weight. Is data.columns.redshift the "
        "right column? `hpctrain ingest desi ... --redshifts TABLE` joins redshifts of other tables."
    )
    return Remark(WARNING, "few-redshifts", text, "data.columns.redshift")


def _rejected(reasons: Counter[str], sample: _Sample, data: SpectraSection, noise: Noise | None) -> Remark:
    num_rejected, num_inspected = sum(reasons.values()), len(sample.flux)
    first, last = float(sample.wavelength_aa.min()), float(sample.wavelength_aa.max())
    listed = "; ".join(f"{count:,}: {_REASONS[name]}" for name, count in reasons.most_common())
    shares = f"{num_rejected:,} of {num_inspected:,} inspected spectra carry no weight ({listed})."
    advice = _advice(reasons, sample, data, noise)
    if num_rejected == num_inspected:
        text = f"All {num_inspected:,} inspected spectra are rejected ({listed}). {advice}"
        return Remark(ERROR, "all-rejected", text, _key(reasons))
    if num_rejected > MANY_REJECTED * num_inspected:
        text = f"{shares} The wavelengths run from {first:,.0f} to {last:,.0f} AA. {advice}"
        return Remark(WARNING, "many-rejected", text, _key(reasons))
    why = "" if set(reasons) == {"masked"} else " data.normalise decides which spectra are accepted."
    return Remark(NOTE, "some-rejected", f"{shares}{why}", _key(reasons))


def _key(reasons: Counter[str]) -> str:
    keys = {"masked": "data.columns.ivar", "window": "data.normalise.windows_aa", "signal": "data.normalise.min_snr"}
    return keys[reasons.most_common(1)[0][0]]


def _advice(reasons: Counter[str], sample: _Sample, data: SpectraSection, noise: Noise | None) -> str:
    """Return advice on the most common reason: its probable cause, and the remedy."""
    reason = reasons.most_common(1)[0][0]
    if reason == "masked":
        return "Is data.columns.ivar the inverse variance, and does data.columns.mask mark bad pixels with 1?"
    if reason == "window" and data.needs_redshift:
        return _advice_on_windows(sample, data)
    if reason == "window":
        return "Leave out data.normalise.windows_aa to use the whole spectrum."
    if noise is not None and noise.looks_like != "ivar":
        return _meaning_text(noise.looks_like)
    if noise is not None and abs(noise.departure_dex) > _DOUBTFUL:
        return _units_text(noise)
    if not data.needs_redshift:
        return "If their continuum was divided out or subtracted, set data.normalise.by: none."
    return "Lower data.normalise.min_snr if such noisy spectra are to be trained on."


def _advice_on_windows(sample: _Sample, data: SpectraSection) -> str:
    first, last = float(sample.wavelength_aa.min()), float(sample.wavelength_aa.max())
    windows = data.normalise.windows_aa
    span = f"The wavelengths run from {first:,.6g} to {last:,.6g} AA"
    reached = {
        unit: int((choose_window(sample.wavelength_aa * np.float32(factor), sample.redshift, windows) >= 0).sum())
        for factor, unit in _UNITS.items()
        if last * factor < 3e5
    }
    unit = max(reached, key=lambda name: reached[name], default="")
    if unit and last < 3000 and reached[unit] > len(sample.redshift) / 2:
        factor = next(factor for factor, name in _UNITS.items() if name == unit)
        return (
            f"{span}: this looks like {unit}. Multiply the wavelengths by {factor:,.0f}, for example in h5py with "
            f"`f['wavelength'][...] *= {factor:.0f}`."
        )
    low, high = float(sample.redshift.min()), float(sample.redshift.max())
    return (
        f"{span} and the redshifts from {low:.3g} to {high:.3g}. Add a window to data.normalise.windows_aa that lies "
        "within this range in the rest frame, or correct the redshifts (data.columns.redshift)."
    )


def _implausible(noise: Noise, severity: str) -> list[Remark]:
    if noise.looks_like != "ivar":
        text = f"{_meaning_text(noise.looks_like)} {_ANYWAY}"
        return [Remark(severity, f"{noise.looks_like}-as-ivar", text, "data.columns.ivar")]
    if noise.departure_dex > _HOPELESS:
        return [Remark(severity, "other-units", f"{_units_text(noise)} {_ANYWAY}", "data.columns.ivar")]
    if abs(noise.departure_dex) > _DOUBTFUL:
        return [Remark(WARNING, "other-units", _units_text(noise), "data.columns.ivar")]
    return []


def _meaning_text(looks_like: str) -> str:
    """Return a text that the column holds sigma or the variance, and how to convert it to ivar."""
    meaning, power = {"sigma": ("sigma, the standard deviation", -2), "variance": ("the variance", -1)}[looks_like]
    return (
        f"According to the noise in the flux, the column ivar holds {meaning}. Name the column that holds the inverse "
        "variance with data.columns.ivar, or convert this one, for example in h5py with "
        f"`f['ivar'][...] = f['ivar'][...] ** {power}.0`."
    )


def _units_text(noise: Noise) -> str:
    """Return a text on the factor between flux and ivar, in sigma, and how to remove it."""
    power = round(abs(noise.departure_dex) / 2)
    factor = f"{10**power:,}" if power <= 4 else f"1e{power}"
    is_large = noise.departure_dex > 0
    change = "divide" if is_large else "multiply"
    return (
        f"The noise in the flux is about {factor} times {'larger' if is_large else 'smaller'} than ivar says: flux and "
        f"ivar seem to be in different units. Either {change} the flux by {factor}, or {change} ivar by 1e{2 * power}."
    )
