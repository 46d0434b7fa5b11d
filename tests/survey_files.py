"""Small survey files with the traps of the real ones, made with astropy, so that a fresh clone tests each of them."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import numpy as np
from astropy.io import fits

DESI_ARMS = {"B": (3600.0, 2751), "R": (5760.0, 2326), "Z": (7520.0, 2881)}


def write_fits(path: Path, hdus: list) -> Path:
    """Write HDUs, gzipped where the name says so."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fits.HDUList(hdus).writeto(path, overwrite=True)
    return path


def make_sdss(
    folder: Path,
    name: str = "spec-3586-55181-0001.fits",
    *,
    loglam0: float = 3.5600,
    num_pixels: int = 400,
    upper: bool = False,
    named_hdus: bool = True,
    metadata: bool = True,
    and_mask: dict[int, int] | None = None,
    ivar_zero: tuple[int, ...] = (),
    **facts: object,
) -> Path:
    """Write an SDSS spec-lite file; `facts` replace columns of its metadata row."""
    rng = np.random.default_rng(1)
    loglam = (loglam0 + 1e-4 * np.arange(num_pixels)).astype(np.float32)
    flux = rng.normal(5, 1, num_pixels).astype(np.float32)
    ivar = rng.uniform(0.5, 2, num_pixels).astype(np.float32)
    ivar[list(ivar_zero)] = 0
    mask = np.zeros(num_pixels, dtype=np.int32)
    for pixel, bit in (and_mask or {}).items():
        mask[pixel] = 1 << bit
    case = str.upper if upper else str.lower
    coadd = fits.BinTableHDU.from_columns(
        [
            fits.Column(case("flux"), "E", array=flux),
            fits.Column(case("loglam"), "E", array=loglam),
            fits.Column(case("ivar"), "E", array=ivar),
            fits.Column(case("and_mask"), "J", array=mask),
        ],
        name="COADD" if named_hdus else None,
    )
    primary = fits.PrimaryHDU()
    # Off by 44 pixels, as in files of RUN2D 26.
    primary.header["COEFF0"], primary.header["COEFF1"], primary.header["VACUUM"] = loglam0 - 44e-4, 1e-4, True
    row = {
        "PLATE": 3586, "MJD": 55181, "FIBERID": 1, "PLUG_RA": 112.04723, "PLUG_DEC": 40.351365, "CLASS": "QSO",
        "Z": 1.5, "Z_ERR": 1e-4, "ZWARNING": 0, "OBJTYPE": "QSO", "SPECOBJID": "4115436376551608320",
        "RUN2D": "v5_13_0", **facts,
    }  # fmt: skip
    kinds = {int: "J", float: "D", str: "22A"}
    columns = [fits.Column(key, kinds[type(value)], array=[value]) for key, value in row.items()]
    table = fits.BinTableHDU.from_columns(columns, name="SPALL" if named_hdus else None)
    return write_fits(folder / name, [primary, coadd, table] if metadata else [primary, coadd])


def make_desi(
    path: Path,
    target_id: list[int] | None = None,
    *,
    mask: str = "uint32",
    masked: dict[tuple[str, int, int], int] | None = None,
    dead: tuple[int, ...] = (),
    columns: dict[str, list] | None = None,
    arms: dict[str, tuple[float, int]] = DESI_ARMS,
    seed: int = 1,
    shuffle: bool = True,
) -> Path:
    """Write a DESI coadd; `mask` is uint32, compressed, int32 or absent, `masked` sets (arm, row, pixel) to bits."""
    rng = np.random.default_rng(seed)
    num_rows = 3 if target_id is None else len(target_id)
    hdus: list = []
    for band, (start, size) in arms.items():
        ivar = rng.uniform(0.5, 2, (num_rows, size)).astype(np.float32)
        ivar[list(dead)] = 0
        bits = np.zeros((num_rows, size), dtype=np.int32 if mask == "int32" else np.uint32)
        for (where, row, pixel), value in (masked or {}).items():
            if where == band:
                bits[row, pixel] = value
        hdus += [
            fits.ImageHDU(start + 0.8 * np.arange(size), name=f"{band}_WAVELENGTH"),
            fits.ImageHDU(rng.normal(3, 1, (num_rows, size)).astype(np.float32), name=f"{band}_FLUX"),
            fits.ImageHDU(ivar, name=f"{band}_IVAR"),
        ]
        if mask == "compressed":
            hdus.append(fits.CompImageHDU(bits, name=f"{band}_MASK"))
        elif mask != "absent":
            hdus.append(fits.ImageHDU(bits, name=f"{band}_MASK"))
    if target_id is not None:
        table = {"TARGETID": target_id, **(columns or {})}
        kinds = {"TARGETID": "K", "OBJTYPE": "3A", "FIBERSTATUS": "J", "COADD_FIBERSTATUS": "J"}
        hdus.append(
            fits.BinTableHDU.from_columns(
                [fits.Column(key, kinds.get(key, "D"), array=values) for key, values in table.items()], name="FIBERMAP"
            )
        )
    if shuffle:
        # The order of the HDUs is nobody's promise.
        hdus = [hdus[index] for index in rng.permutation(len(hdus))]
    primary = fits.PrimaryHDU()
    primary.header["SURVEY"], primary.header["PROGRAM"], primary.header["HPXPIXEL"] = "main", "dark", 9144
    return write_fits(path, [primary, *hdus])


def make_redshifts(path: Path, hdu: str, rows: dict[str, list]) -> Path:
    """Write a table of redshifts in an HDU of the given name."""
    kinds = {"TARGETID": "K", "ZWARN": "K", "SPECTYPE": "6A", "SURVEY": "7A", "PROGRAM": "6A", "ZCAT_PRIMARY": "L"}
    columns = [fits.Column(key, kinds.get(key, "D"), array=values) for key, values in rows.items()]
    return write_fits(path, [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name=hdu)])


def cut_gzip(path: Path, source: Path) -> Path:
    """Write the first half of the gzipped `source`."""
    packed = gzip.compress(source.read_bytes())
    path.write_bytes(packed[: len(packed) // 2])
    return path


def make_star(num_pixels: int = 300, seed: int = 1, size: float = 20.0) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth flux with an absorption line, with noise, and its standard deviations, shape (L,)."""
    rng = np.random.default_rng(seed)
    pixel = np.linspace(-1, 1, num_pixels)
    smooth = size * (1 + 0.3 * pixel - 0.5 * np.exp(-0.5 * ((pixel - 0.2) / 0.03) ** 2))
    error = 0.03 * size * 10 ** (0.6 * pixel) * rng.uniform(0.9, 1.1, num_pixels)
    return rng.normal(smooth, error), error


def make_image(path: Path, data: np.ndarray, **cards: object) -> Path:
    """Write a FITS file of one image; a `_` in the name of a card stands for `-`."""
    hdu = fits.PrimaryHDU(data)
    for key, value in cards.items():
        hdu.header[key.replace("_", "-") if key.startswith("DC") else key] = value
    return write_fits(path, [hdu])


def make_table_fits(path: Path, columns: dict[str, object], units: dict[str, str] | None = None) -> Path:
    """Write a FITS file with one binary table."""
    from astropy.table import Table

    table = Table(columns)
    for name, unit in (units or {}).items():
        table[name].unit = unit
    table.write(path, overwrite=True)
    return path


def make_lamost(path: Path, *, as_table: bool = False, **cards: object) -> Path:
    """Write a LAMOST spectrum: one image of five rows (until DR7), or a table of one row (since DR8)."""
    flux, error = make_star(3904, size=2000.0)
    ivar = (error**-2.0).astype("f4")
    mask = np.zeros(3904, dtype="f4")
    mask[10], ivar[20] = 4, 0
    primary = fits.PrimaryHDU()
    rows = [flux.astype("f4"), ivar, np.ones(3904, "f4"), mask, mask]
    hdus = [primary]
    if as_table:
        names = ("FLUX", "IVAR", "WAVELENGTH", "ANDMASK", "ORMASK")
        rows[2] = (10.0 ** (3.5682 + 1e-4 * np.arange(3904))).astype("f4")
        hdus.append(
            fits.BinTableHDU.from_columns(
                [fits.Column(name, "3904E", array=row[None]) for name, row in zip(names, rows, strict=True)],
                name="COADD",
            )
        )
    else:
        hdus = [fits.PrimaryHDU(np.stack(rows))]
    facts = {
        "TELESCOP": "LAMOST", "COEFF0": 3.5682, "COEFF1": 1e-4, "VACUUM": True, "Z": -0.00012, "Z_ERR": 1e-5,
        "CLASS": "STAR", "SUBCLASS": "G5", "RA": 332.2, "DEC": -2.05, "MJD": 55859, "OBSID": 101001, **cards,
    }  # fmt: skip
    hdus[0].header.update(facts)
    return write_fits(path, hdus)
