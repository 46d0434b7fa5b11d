"""``hpctrain ingest any`` reads what specutils reads, with its units, errors and masks."""

from __future__ import annotations

import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from survey_files import make_image, make_sdss, make_star

from hpctrain.cli import main
from hpctrain.preprocess.wavelength import air_to_vacuum


def ingest(*arguments: object) -> int:
    """Call the command and return its exit code."""
    return main(["ingest", *(str(argument) for argument in arguments)])


def read(path: Path) -> dict[str, np.ndarray]:
    """Return all columns of a file."""
    with h5py.File(path) as file:
        return {name: values[...] for name, values in file.items() if isinstance(values, h5py.Dataset)}


def test_without_specutils_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "specutils", None)  # an import of it fails, as where it is not installed
    path = make_image(tmp_path / "a.fits", make_star()[0], CRVAL1=4000.0, CDELT1=2.0)
    assert ingest("any", path, "--preview") == 4
    assert "pip install 'hpctrain[specutils]'" in capsys.readouterr().err


@pytest.mark.slow
def test_formats_of_specutils_come_in(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    utils = pytest.importorskip("specutils.utils.wcs_utils")
    from astropy import units

    grid = np.linspace(3000.0, 10000.0, 50)
    theirs = utils.air_to_vac(grid * units.AA, scheme="iteration", method="Ciddor1996").to_value("AA")
    assert np.allclose(air_to_vacuum(grid), theirs, rtol=0, atol=2e-4)

    flux, _ = make_star()
    image = make_image(
        tmp_path / "a.fits", flux, CRVAL1=400.0, CDELT1=0.2, CRPIX1=1.0, CTYPE1="WAVE", CUNIT1="nm", Z=0.3
    )
    options = ("--assume-snr", 10, "--column", "redshift=header:Z", "--grid", "native")
    assert ingest("any", image, *options, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], 4000 + 2.0 * np.arange(300))
    assert np.allclose(found["flux"][0], flux, rtol=1e-6)
    assert found["redshift"].tolist() == [0.3]

    sdss = make_sdss(tmp_path, and_mask={3: 5}, ivar_zero=(7,))
    assert ingest("any", sdss, "--loader", "SDSS-III/IV spec", "--out", tmp_path / "b.h5") == 0
    assert ingest("sdss", sdss, "--mask-bits", "any", "--out", tmp_path / "c.h5") == 0
    theirs, ours = read(tmp_path / "b.h5"), read(tmp_path / "c.h5")
    assert np.array_equal(theirs["flux"], ours["flux"])
    assert np.array_equal(theirs["ivar"], ours["ivar"])

    (tmp_path / "no.fits").write_text("not a spectrum")
    capsys.readouterr()
    assert ingest("any", tmp_path / "no.fits", "--preview") == 4
    assert "specutils cannot read it" in capsys.readouterr().err
