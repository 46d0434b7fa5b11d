"""``hpctrain ingest fits`` on the shapes that FITS spectra have: tables and images, one spectrum per file or many."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits
from survey_files import make_image, make_lamost, make_star, make_table_fits, write_fits

from hpctrain.cli import main
from hpctrain.preprocess.wavelength import air_to_vacuum

FLUX, ERROR = make_star()
GRID = 4000.0 + 2.0 * np.arange(300)


def ingest(*arguments: object) -> int:
    """Call the command and return its exit code."""
    return main(["ingest", *(str(argument) for argument in arguments)])


def read(path: Path) -> dict[str, np.ndarray]:
    """Return all columns of a file."""
    with h5py.File(path) as file:
        return {name: values[...] for name, values in file.items() if isinstance(values, h5py.Dataset)}


def test_a_table_with_a_row_per_pixel_is_one_spectrum(tmp_path: Path) -> None:
    columns = {"WAVE": GRID / 10, "FLUX": FLUX * 1e-17, "ERR": ERROR * 1e-17, "z": np.full(300, 0.5)}
    units = {"WAVE": "nm", "FLUX": "erg / (s cm2 Angstrom)", "ERR": "erg / (s cm2 Angstrom)"}
    path = make_table_fits(tmp_path / "one.fits", columns, units)
    assert ingest("fits", path, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], GRID)
    assert np.allclose(found["flux"][0], FLUX, rtol=1e-6)
    assert np.allclose(found["ivar"][0], ERROR**-2, rtol=1e-6)
    assert found["redshift"].tolist() == [0.5]


def test_a_table_with_a_row_per_spectrum_keeps_its_labels(tmp_path: Path) -> None:
    flux = np.stack([FLUX, 2 * FLUX])
    columns = {
        "FLUX": flux, "IVAR": np.stack([ERROR**-2] * 2), "WAVELENGTH": np.stack([GRID, GRID + 2]),
        "OBJECT_ID": ["a", "b"], "TEFF": [5000, -9999], "KIND": ["G5", "M1"],
    }  # fmt: skip
    path = make_table_fits(tmp_path / "many.fits", columns, {"TEFF": "K"})
    options = ("--column", "teff=TEFF", "kind=KIND", "--missing", -9999, "--out", tmp_path / "a.h5")
    assert ingest("fits", path, *options) == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["flux"][0], FLUX, rtol=1e-6)
    assert np.allclose(found["flux"][1, 1:], 2 * FLUX[:-1], rtol=1e-6)  # its grid begins one pixel later
    assert found["name"].tolist() == [b"a", b"b"]
    assert len(set(found["target_id"])) == 2
    assert found["kind"].tolist() == [b"G5", b"M1"]
    assert found["teff"][0] == 5000
    assert np.isnan(found["teff"][1])
    with h5py.File(tmp_path / "a.h5") as file:
        assert dict(file["teff"].attrs)["unit"] == "K"
        assert file["flux"].attrs["unit"] == "relative"


def test_vectors_of_different_lengths_come_in(tmp_path: Path) -> None:
    lengths = (300, 280)
    columns = [
        fits.Column(name, "PD()", array=np.array([values[:length] for length in lengths], dtype=object))
        for name, values in (("FLUX", FLUX), ("ERROR", ERROR), ("LAMBDA", GRID))
    ]
    path = write_fits(tmp_path / "ragged.fits", [fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)])
    assert ingest("fits", path, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["flux"][0], FLUX, rtol=1e-6)
    assert (found["ivar"] > 0).sum(axis=1).tolist() == [300, 280]


@pytest.mark.parametrize("shape", [(300,), (1, 300), (1, 1, 300)])
def test_an_image_takes_its_wavelengths_from_the_header(tmp_path: Path, shape: tuple[int, ...]) -> None:
    cards = {"CRVAL1": 4000.0, "CDELT1": 2.0, "CRPIX1": 1.0, "CTYPE1": "AWAV", "CUNIT1": "Angstrom", "OBJECT": "star"}
    path = make_image(tmp_path / "image.fits", FLUX.reshape(shape), **cards)
    options = ("--measure-noise", "--column", "target_id=header:object", "--value", "redshift=0.1", "spectype=STAR")
    assert ingest("fits", path, *options, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], air_to_vacuum(GRID))
    assert np.allclose(found["flux"][0], FLUX, rtol=1e-6)
    assert (found["name"][0], found["redshift"][0], found["spectype"][0]) == (b"star", 0.1, b"STAR")


def test_planes_of_an_image_are_flux_and_error(tmp_path: Path) -> None:
    image = np.stack([FLUX, np.zeros(300), np.zeros(300), ERROR])[:, None, :]  # as IRAF writes them
    path = make_image(tmp_path / "iraf.fits", image, CRVAL1=3.6, CDELT1=1e-4, DC_FLAG=1)
    options = ("--column", "flux=0[0]", "error=0[3]", "--vacuum", "--grid", "native")
    assert ingest("fits", path, *options, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], 10 ** (3.6 + 1e-4 * np.arange(300)))
    assert np.allclose(found["ivar"][0], ERROR**-2, rtol=1e-6)


@pytest.mark.parametrize("along", ["rows", "columns"])
def test_spectra_are_rows_or_columns_of_an_image(tmp_path: Path, along: str) -> None:
    flux = np.stack([FLUX, 2 * FLUX, 3 * FLUX])
    images = {"FLUX": flux, "STAT": np.stack([ERROR**2] * 3)}
    hdus = [fits.ImageHDU(each if along == "rows" else each.T, name=name) for name, each in images.items()]
    path = write_fits(tmp_path / "stack.fits", [fits.PrimaryHDU(), *hdus, fits.ImageHDU(GRID, name="WAVE")])
    assert ingest("fits", path, "--column", "variance=STAT", "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["flux"], flux, rtol=1e-6)
    assert np.allclose(found["ivar"][2], ERROR**-2, rtol=1e-6)


def test_hdu_chooses_between_tables_with_the_same_columns(tmp_path: Path) -> None:
    tables = []
    for name, factor in (("BLUE", 1.0), ("RED", 7.0)):
        values = {"flux": factor * FLUX, "err": ERROR, "wave": GRID}
        columns = [fits.Column(column, "D", array=array) for column, array in values.items()]
        tables.append(fits.BinTableHDU.from_columns(columns, name=name))
    path = write_fits(tmp_path / "two.fits", [fits.PrimaryHDU(), *tables])
    for options, factor in (((), 1.0), (("--hdu", "red"), 7.0), (("--column", "flux=RED:flux"), 7.0)):
        assert ingest("fits", path, *options, "--out", tmp_path / "a.h5", "--overwrite") == 0
        assert np.allclose(read(tmp_path / "a.h5")["flux"][0], factor * FLUX, rtol=1e-6)
    assert ingest("fits", path, "--hdu", "green", "--out", tmp_path / "b.h5") == 4


def test_masks_of_both_senses_and_falling_wavelengths(tmp_path: Path) -> None:
    mask, good = np.zeros(300, dtype="i4"), np.ones(300, dtype="i4")
    mask[5], good[7] = 8, 0
    columns = {"flux": FLUX[::-1], "err": ERROR[::-1], "wave": GRID[::-1], "mask": mask[::-1], "valid": good[::-1]}
    path = make_table_fits(tmp_path / "falling.fits", columns)
    assert ingest("fits", path, "--column", "good=valid", "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], GRID)
    assert np.flatnonzero(found["ivar"][0] == 0).tolist() == [5, 7]
    assert ingest("fits", path, "--column", "mask=none", "--out", tmp_path / "b.h5") == 0
    assert read(tmp_path / "b.h5")["ivar"].all()


def test_bright_stars_keep_their_small_inverse_variances(tmp_path: Path) -> None:
    columns = {"flux": FLUX * 1e6, "err": ERROR * 1e6, "wave": GRID}
    path = make_table_fits(tmp_path / "bright.fits", columns, {"flux": "1e-17 erg/(s cm2 Angstrom)"})
    assert ingest("fits", path, "--out", tmp_path / "a.h5") == 0
    assert read(tmp_path / "a.h5")["ivar"].all()


@pytest.mark.parametrize("as_table", [False, True])
def test_lamost_needs_no_option(tmp_path: Path, as_table: bool, capsys: pytest.CaptureFixture) -> None:
    make_lamost(tmp_path / "spec-55859-F5902_sp01-001.fits", as_table=as_table)
    make_lamost(tmp_path / "spec-55860-F5902_sp01-001.fits", as_table=as_table, MJD=55860, RA=332.20001, Z=-9999.0)
    assert ingest("lamost", tmp_path, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert found["flux"].shape == (2, 4681)  # on the grid of SDSS, pixel for pixel
    assert (found["ivar"] > 0).sum(axis=1).tolist() == [3902, 3902]
    assert len(set(found["target_id"])) == 1
    assert found["redshift"][0] == pytest.approx(-0.00012)
    assert np.isnan(found["redshift"][1])
    assert (found["spectype"][0], found["subclass"][0], found["obsid"][0]) == (b"STAR", b"G5", 101001)
    assert "LAMOST FITS" in capsys.readouterr().out


def test_other_surveys_are_named_with_the_command_that_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    image = make_image(folder / "spec-1-2-3.fits", FLUX)
    assert ingest("sdss", image, "--out", tmp_path / "a.h5") == 4
    assert "`hpctrain ingest fits FILE --preview`" in capsys.readouterr().err
    assert ingest("lamost", image, "--out", tmp_path / "a.h5") == 4
    assert "is not a LAMOST spectrum" in capsys.readouterr().err
