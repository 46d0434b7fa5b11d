"""Surveys whose FITS files are recognised by their header, so that nothing needs to be named."""

from __future__ import annotations

from hpctrain.ingest.mapped.stores.store import HEADER, Store

_LAMOST_LABELS = {
    "redshift": "Z", "redshift_error": "Z_ERR", "spectype": "CLASS", "subclass": "SUBCLASS", "ra": "RA", "dec": "DEC",
    "mjd": "MJD", "obsid": "OBSID", "snr_g": "SNRG", "snr_r": "SNRR",
}  # fmt: skip


def better_command(store: Store) -> str:
    """Return advice on FITS files that another subcommand reads better, or an empty text.

    Parameters
    ----------
    store : Store
    """
    if {"B_FLUX", "B_WAVELENGTH"} <= set(store.items):
        return "these are the arms of DESI: `hpctrain ingest desi` merges them and joins redshifts"
    if store.find("loglam") is not None and store.find("and_mask") is not None:
        return "this is an SDSS spec file: `hpctrain ingest sdss` also reads its mask bits"
    return ""


def recognise(store: Store) -> tuple[str, dict[str, str]]:
    """Return the name of the survey that a FITS file is of, and what is what in it; empty if it is not known.

    Parameters
    ----------
    store : Store

    References
    ----------
    .. [1] LAMOST data release notes, section on FITS files: early releases have one image with the rows flux, inverse
       variance, wavelength or continuum, ANDMASK, ORMASK; later ones a table COADD with one row.
    """
    if str(store.header_value("TELESCOP") or "").strip().upper() != "LAMOST":
        return "", {}
    names = {ours: f"{HEADER}{key}" for ours, key in _LAMOST_LABELS.items() if store.header_value(key) is not None}
    image = store.items.get("0")
    if image is not None and image.is_image and len(image.shape) == 2 and image.shape[0] >= 4:
        return "LAMOST", {"flux": "0[0]", "ivar": "0[1]", "mask": "0[3]", **names}
    table = {"flux": "FLUX", "ivar": "IVAR", "wavelength": "WAVELENGTH", "mask": "ANDMASK"}
    return "LAMOST", {**{ours: key for ours, key in table.items() if store.find(key) is not None}, **names}
