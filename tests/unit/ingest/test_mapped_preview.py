"""The preview says what is understood, and recognises wrong units by the size of numbers and by the noise."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from survey_files import make_image, make_star, make_table_fits

from hpctrain.cli import main
from hpctrain.ingest.mapped.convert import Raw
from hpctrain.ingest.mapped.suspicions import suspect_arms

GRID = 4000.0 + 4.0 * np.arange(1024)
UNIT = "1e-17 erg / (s cm2 Angstrom)"


def ingest(*arguments: object) -> int:
    """Call the command and return its exit code."""
    return main(["ingest", *(str(argument) for argument in arguments)])


def make_stars(folder: Path, *, noise: str = "err", power: float = 1.0, size: float = 20.0, **more: object) -> Path:
    """Write eight stars; the column `noise` holds the standard deviation to the given power."""
    wave = more.pop("wave", GRID)
    units = more.pop("units", {})
    for seed in range(8):
        flux, error = make_star(1024, seed=seed, size=size)
        columns = {"wave": wave, "flux": flux, noise: error**power, **more}
        make_table_fits(folder / f"star{seed}.fits", columns, units)
    return folder


def test_a_short_preview_comes_before_every_ingest(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_stars(tmp_path, units={"flux": UNIT, "wave": "Angstrom"})
    assert ingest("fits", folder, "--out", tmp_path / "a.h5") == 0
    printed = capsys.readouterr().out
    for text in (
        "star0.fits (the first of 8 files): FITS",
        "flux (1024); 10**-17 ",
        " -> 1e-17 erg s-1 cm-2 AA-1",
        "err (1024), the standard deviation",
        "wave (1024); Angstrom; vacuum (assumed; --air)",
        "one spectrum per file; 1,024 pixels from 4000.00 to 8092.00 AA in vacuum",
        "none: made of file name and row; --column target_id=NAME",
        "unknown (NaN); --column redshift=NAME",
        "100% of the pixels good",
    ):
        assert text in printed
    assert "star0.fits has" not in printed
    assert printed.index("the first of 8 files") < printed.index("a.h5: 8 spectra")


def test_preview_alone_shows_all_that_a_file_has_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    path = make_image(tmp_path / "a.fits", make_star()[0], CRVAL1=400.0, CDELT1=0.2, CUNIT1="nm", OBSERVER="Cannon")
    assert ingest("fits", path, "--preview", "--assume-snr", 10) == 0
    printed = capsys.readouterr().out
    assert "header of 0: CRVAL, CDELT; nm" in printed
    assert "OBSERVER=Cannon" in printed
    assert [each.name for each in tmp_path.iterdir()] == ["a.fits"]


def test_all_that_is_missing_is_said_at_once_with_what_there_is(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_table_fits(tmp_path / "a.fits", {"lambd": GRID, "data1": GRID, "sky": GRID})
    assert ingest("fits", path, "--preview", "--column", "flux=data", "teff=T", "source_row=sky") == 4
    printed = capsys.readouterr()
    assert "1024: lambd, data1, sky" in printed.out
    for text in (
        "--column flux=data: no such name in this FITS file; did you mean data1?",
        "errors: no array with a usual name",
        "wavelength: no array with a usual name",
        "--column teff=T: no such name",
        "hpctrain fills source_row itself",
    ):
        assert text in printed.err


@pytest.mark.parametrize(
    ("factor", "unit", "looks"),
    [(0.1, "nm", "nanometres"), (1e-4, "um", "micrometres"), (None, "log10(AA)", "log10 of Angstrom")],
)
def test_wavelengths_of_another_size_stop_the_ingest_until_the_unit_is_stated(
    tmp_path: Path, capsys: pytest.CaptureFixture, factor: float | None, unit: str, looks: str
) -> None:
    folder = make_stars(tmp_path, wave=np.log10(GRID) if factor is None else GRID * factor)
    assert ingest("fits", folder, "--out", tmp_path / "a.h5") == 4
    error = capsys.readouterr().err
    assert f"this looks like {looks}: --wavelength-unit" in error
    assert not (tmp_path / "a.h5").exists()
    assert ingest("fits", folder, "--out", tmp_path / "a.h5", "--wavelength-unit", unit) == 0
    assert "from 4000.00 to 8092.00 AA" in capsys.readouterr().out


@pytest.mark.parametrize(("size", "unit"), [(2e-16, "erg s-1 cm-2 AA-1"), (2e-27, "erg s-1 cm-2 Hz-1")])
def test_fluxes_of_another_size_stop_the_ingest_until_the_unit_is_stated(
    tmp_path: Path, capsys: pytest.CaptureFixture, size: float, unit: str
) -> None:
    folder = make_stars(tmp_path, size=size)
    assert ingest("fits", folder, "--out", tmp_path / "a.h5") == 4
    assert f"this looks like {unit}: --flux-unit '{unit}'" in capsys.readouterr().err
    assert ingest("fits", folder, "--out", tmp_path / "a.h5", "--flux-unit", unit) == 0
    assert "warning: flux" not in capsys.readouterr().err


def test_a_stated_unit_that_gives_absurd_sizes_is_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    folder = make_stars(tmp_path, units={"flux": "erg / (s cm2 Angstrom)", "wave": "m"})
    assert ingest("fits", folder, "--preview") == 0
    error = capsys.readouterr().err
    assert "warning: wavelength: 4000 to 8092 m are 4e+13 to" in error
    assert "x 1e-17 erg s-1 cm-2 AA-1 with the unit 'erg Angstrom-1 s-1 cm-2'; is the unit right?" in error


@pytest.mark.parametrize(
    ("noise", "power", "is_really"),
    [
        ("ivar", 1.0, "error"), ("ivar", 2.0, "variance"), ("err", 2.0, "variance"), ("err", -2.0, "ivar"),
        ("variance", -2.0, "ivar"), ("err", 1.0, ""), ("ivar", -2.0, ""), ("variance", 2.0, ""),
    ],
)  # fmt: skip
def test_errors_that_are_something_else_are_recognised_by_the_noise(
    tmp_path: Path, capsys: pytest.CaptureFixture, noise: str, power: float, is_really: str
) -> None:
    folder = make_stars(tmp_path, noise=noise, power=power)
    assert ingest("fits", folder, "--preview") == 0
    error = capsys.readouterr().err
    if is_really:
        assert f"by the noise in the flux, {noise} holds" in error
        assert f"--column {is_really}={noise} reads it so" in error
        assert ingest("fits", folder, "--preview", "--column", f"{is_really}={noise}") == 0
        assert "by the noise" not in capsys.readouterr().err
    else:
        assert error == ""


def test_errors_in_another_unit_than_the_flux_are_recognised(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    for seed in range(8):
        flux, error = make_star(1024, seed=seed)
        make_table_fits(tmp_path / f"{seed}.fits", {"wave": GRID, "flux": flux, "err": error / 1000})
    assert ingest("fits", tmp_path, "--preview") == 0
    assert "times larger than err says; are they in the same unit?" in capsys.readouterr().err


def test_the_first_readable_file_is_shown_and_the_others_are_listed_later(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    make_stars(tmp_path)
    (tmp_path / "a_first.fits").touch()
    make_table_fits(tmp_path / "b_other.fits", {"x": GRID})
    assert ingest("fits", tmp_path, "--out", tmp_path / "a.h5") == 0
    printed = capsys.readouterr()
    assert "star0.fits (the first of 10 files)" in printed.out
    assert "could not be read (to the end): 2 files" in printed.err
    assert "a_first.fits: is empty" in printed.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--column", "flux=a", "flux=b"], "flux given twice"),
        (["--column", "2x=a"], "write OURS=THEIRS"),
        (["--value", "flux=3"], "write OURS=VALUE"),
        (["--assume-snr", "0"], "is not a number above 0"),
        (["--column", "error=err", "--assume-snr", "5"], "give one of them"),
        (["--column", "error=err", "ivar=err"], "name one of them"),
        (["--flux-unit", "furlong", "--column", "error=err"], "unit 'furlong'"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    path = make_table_fits(tmp_path / "a.fits", {"wave": GRID, "flux": GRID, "err": GRID})
    with contextlib.suppress(SystemExit):  # argparse, after its message
        assert ingest("fits", path, *options, "--out", tmp_path / "a.h5") == 4
    assert message in capsys.readouterr().err


def test_out_is_only_needed_without_preview(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    path = make_table_fits(tmp_path / "a.fits", {"wave": GRID, "flux": GRID, "err": GRID})
    with pytest.raises(SystemExit) as stopped:
        ingest("fits", path)
    assert stopped.value.code == 2
    assert "--out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("ranges", "numbers", "said"),
    [
        ([(3600, 5800), (5760, 7620)], [5, 5], "3600 to 5800 and 5760 to 7620; if they are arms"),
        ([(5760, 7620), (3600, 5800)], [5, 5], "3600 to 5800 and 5760 to 7620; if they are arms"),
        ([(3600, 5800), (5760, 7620)], [5, 1], None),  # arms have the same objects
        ([(3600, 9800), (3600, 9800)], [1, 1], None),  # exposures, or orders of one range
        ([(3600, 5800)], [5], None),
    ],
)
def test_arms_that_stay_apart_are_named(ranges: list, numbers: list, said: str | None) -> None:
    parts = [
        Raw(np.arange(number), np.linspace(*ends, 9), np.ones((number, 9)), None, np.zeros((number, 9), bool))
        for ends, number in zip(ranges, numbers, strict=True)
    ]
    found = suspect_arms(parts)
    assert (found is None) == (said is None)
    if found is not None:
        assert not found.is_error
        assert said in found.text
        assert "`hpctrain ingest desi`" in found.text
