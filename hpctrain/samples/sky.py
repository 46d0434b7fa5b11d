"""Cells of the sky."""

from __future__ import annotations

import numpy as np

from hpctrain.errors import DataError, SiteError


def sky_cells(ra_deg: np.ndarray, dec_deg: np.ndarray, nside: int, wanted_by: str, dec_name: str = "dec") -> np.ndarray:
    """Return the nested HEALPix cell of each position.

    Parameters
    ----------
    ra_deg, dec_deg : ndarray, shape (N,)
    nside : int
        A power of two: the sky has 12 nside² cells.
    wanted_by : str
        What needs the cells, such as a key of the profile, for messages.
    dec_name : str
        Name of the column with the declination, for messages.

    Returns
    -------
    ndarray, shape (N,), int64

    Raises
    ------
    DataError
        A declination is beyond 90 degrees.
    SiteError
        The package astropy-healpix is missing.

    References
    ----------
    .. [1] Gorski et al. 2005, ApJ 622, 759, arXiv:astro-ph/0409513.
    """
    try:
        from astropy import units
        from astropy_healpix.core import lonlat_to_healpix
    except ModuleNotFoundError as error:
        raise SiteError(f"{wanted_by} needs the package astropy-healpix: pip install 'hpctrain[validation]'") from error
    if wrong := int(np.count_nonzero(np.abs(dec_deg) > 90)):
        raise DataError(f"{dec_name}: {wrong:,} rows are beyond 90 degrees; is it the declination in degrees?")
    return lonlat_to_healpix(ra_deg * units.deg, dec_deg * units.deg, nside, order="nested").astype(np.int64)
