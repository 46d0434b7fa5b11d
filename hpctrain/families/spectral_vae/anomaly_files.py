"""Tables of unusual objects for people and programs: FITS, CSV, ECSV; and the ratings that a person has filled in."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.families.spectral_vae.anomaly_catalogue import NO_RATING, Chosen
from hpctrain.families.spectral_vae.anomaly_list import reason_of
from hpctrain.families.spectral_vae.figures import row_of
from hpctrain.families.spectral_vae.interest import HIGHEST, LOWEST
from hpctrain.files import NewFile
from hpctrain.kinds.spectra.objects import describe_object, known_values

if TYPE_CHECKING:
    from astropy.table import Table

FORMATS = {".fits": "fits", ".csv": "ascii.csv", ".ecsv": "ascii.ecsv"}
"""Ending of a table's name to astropy's name of its format."""

_KNOWN = {
    "plate": (int, None, "SDSS plate"),
    "mjd": (int, "d", "modified Julian date of the SDSS observation"),
    "fiber": (int, None, "SDSS fibre"),
    "ra": (float, "deg", "right ascension, ICRS"),
    "dec": (float, "deg", "declination, ICRS"),
    "class": (str, None, "class in the survey"),
}
_NUMBERS = {
    "redshift": (None, "redshift the spectrum was encoded with"),
    "anomaly_score": (None, "-log10 of the false-alarm probability"),
    "local_chi2": (None, "log chi-square in robust sigmas of objects of similar S/N and redshift"),
    "latent_density": (None, "natural log of the probability density of the latents"),
    "forest_score": (None, "Isolation Forest on the latents; negative: isolated"),
    "chi2": (None, "reduced chi-square of the reconstruction"),
    "snr": (None, "median signal to noise ratio per pixel"),
}
_PAGES = {"legacy_survey": "Legacy Survey", "skyserver": "SkyServer", "spectrum": "spectrum at"}
"""Column to the beginning of the text of a link."""
_MOST_NAMED = 5


def anomaly_columns(shown: Mapping[str, np.ndarray], chosen: Chosen) -> Table:
    """Return the table of unusual objects.

    Parameters
    ----------
    shown : mapping of ndarray, shape (n,)
        The objects, of :meth:`Catalogue.rows`.
    chosen : Chosen
        Their ranks and ratings.

    Returns
    -------
    Table
        ``rank``, ``target_id`` (for DESI the TARGETID), plate, MJD and fibre, position, class, scores, ``reason``, web
        pages, and ``interest`` for a person to fill: masked where nobody has rated the object yet.
    """
    from astropy.table import MaskedColumn, Table

    count = len(chosen.rows)
    objects = [row_of(shown, row) for row in range(count)]
    known = [known_values(one) for one in objects]
    table = Table({"rank": np.arange(1, count + 1), "target_id": shown["target_id"]})
    for name, (kind, unit, meaning) in _KNOWN.items():
        if any(name in one for one in known):
            values, mask = [one.get(name, kind()) for one in known], [name not in one for one in known]
            table[name] = MaskedColumn(values, mask=mask, unit=unit, description=meaning)
    for name, (unit, meaning) in _NUMBERS.items():
        table[name] = MaskedColumn(shown[name], mask=~np.isfinite(shown[name]), unit=unit, description=meaning)
    table["reason"] = [reason_of(one) for one in objects]
    links = [describe_object(one).links for one in objects]
    for name, text in _PAGES.items():
        pages = [next((link.address for link in those if link.text.startswith(text)), "") for those in links]
        if any(pages):
            table[name] = pages
    if chosen.priority is not None:
        table["predicted_interest"], table["priority"] = chosen.predicted, chosen.priority
    interest = MaskedColumn(chosen.interest, mask=chosen.interest == NO_RATING, dtype=np.int16)
    interest.description = f"fill in: {LOWEST} (not interesting) to {HIGHEST}; then hpctrain anomalies ... --rated FILE"
    table["interest"] = interest
    return table


def write_table(table: Table, path: Path) -> None:
    """Write a table as FITS, CSV or ECSV, by its ending; whole or not at all.

    Raises
    ------
    DataError
        The file cannot be written.
    """
    try:
        with NewFile(path) as new:
            if FORMATS[path.suffix] == "fits":
                table.write(new.stream, format="fits")
            else:
                text = io.StringIO()
                table.write(text, format=FORMATS[path.suffix])
                new.stream.write(text.getvalue().encode())
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def read_ratings(path: Path) -> dict[int, int]:
    """Return the interest of the objects that a person has rated, by target_id.

    Raises
    ------
    DataError
        The file cannot be read, has no columns ``target_id`` and ``interest``, no rating, or a rating that is not a
        whole number from 0 to 5; the message lists the first of them.
    """
    from astropy.table import Table

    if path.suffix not in FORMATS:
        raise DataError(f"{path}: ratings are read from {', '.join(FORMATS)}, found {path.suffix or 'no ending'!r}")
    try:
        table = Table.read(path, format=FORMATS[path.suffix])
    except Exception as error:  # the readers of astropy raise many kinds
        raise DataError(f"{path}: cannot be read as a table ({error})") from error
    missing = [name for name in ("target_id", "interest") if name not in table.colnames]
    if missing:
        raise DataError(f"{path}: lacks {', '.join(missing)}; use the table that `hpctrain anomalies --out` wrote")
    found, wrong = {}, []
    for number, (name, value) in enumerate(zip(table["target_id"], table["interest"], strict=True), 1):
        rating = _rating(value)
        if rating is None:
            continue
        if rating in range(LOWEST, HIGHEST + 1):
            found[int(name)] = int(rating)
        else:
            wrong.append(f"row {number}: {str(value)!r}")
    if wrong:
        more = f" and {len(wrong) - _MOST_NAMED} more" if len(wrong) > _MOST_NAMED else ""
        listed = ", ".join(wrong[:_MOST_NAMED])
        raise DataError(f"{path}: interest: must be a whole number from {LOWEST} to {HIGHEST}; found {listed}{more}")
    if not found:
        raise DataError(f"{path}: no object is rated; fill in the column interest ({LOWEST} to {HIGHEST})")
    return found


def _rating(value: Any) -> float | None:
    """Return a rating; None where the cell is empty, NaN where it is no number."""
    if np.ma.is_masked(value) or str(value).strip() in ("", "nan"):
        return None
    try:
        return float(value)
    except ValueError:
        return float("nan")
