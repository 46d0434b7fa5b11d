"""Wavelengths of any file become vacuum Angstrom: units, logarithms, headers, air."""

from __future__ import annotations

import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.ingest.mapped.units import parse_unit, split_logarithm
from hpctrain.ingest.mapped.wavelengths import Scale, axis_of_header, scale_of_column
from hpctrain.preprocess.wavelength import air_to_vacuum


@pytest.mark.parametrize(
    ("air", "vacuum"), [(6562.801, 6564.614), (4861.325, 4862.683), (5006.843, 5008.240), (3933.663, 3934.777)]
)
def test_lines_in_air_are_where_they_are_in_vacuum(air: float, vacuum: float) -> None:
    assert air_to_vacuum(np.array([air]))[0] == pytest.approx(vacuum, abs=0.003)


def test_air_is_the_vacuum_wavelength_divided_by_the_index_at_that_wavelength() -> None:
    vacuum = np.linspace(2100.0, 25000.0, 500)
    wavenumber2 = (1e4 / vacuum) ** 2
    index = 1 + 0.05792105 / (238.0185 - wavenumber2) + 0.00167917 / (57.362 - wavenumber2)
    assert np.allclose(air_to_vacuum(vacuum / index), vacuum, rtol=0, atol=1e-8)


def test_ultraviolet_wavelengths_are_in_vacuum_already() -> None:
    assert air_to_vacuum(np.array([1215.67]))[0] == 1215.67


@pytest.mark.parametrize(
    ("unit", "value"),
    [
        ("nm", 500.0), ("um", 0.5), ("microns", 0.5), ("Angstrom", 5000.0), ("AA", 5000.0), ("A", 5000.0),
        ("log10(AA)", np.log10(5000.0)), ("dex(nm)", np.log10(500.0)), ("ln(Angstrom)", np.log(5000.0)),
        ("log10 Angstrom", np.log10(5000.0)), ("Hz", 299792458.0 / 5e-7), ("1/cm", 20000.0), ("eV", 2.479684),
        ("m", 5e-7),
    ],
)  # fmt: skip
def test_units_of_wavelength_are_converted(unit: str, value: float) -> None:
    scale = scale_of_column("wave", "", unit, "", ())
    assert scale.to_vacuum_aa(np.array([value]))[0] == pytest.approx(5000.0, rel=1e-6)
    assert scale.unit_known


def test_a_unit_that_is_no_wavelength_is_refused_with_the_option_that_replaces_it() -> None:
    with pytest.raises(DataError, match=r"'kg'.*--wavelength-unit"):
        Scale("kg").to_vacuum_aa(np.array([1.0]))


def test_an_unknown_unit_is_named() -> None:
    with pytest.raises(DataError, match="unit 'furlongs'"):
        parse_unit("furlongs")


def test_a_column_named_loglam_holds_logarithms_unless_its_unit_says_otherwise() -> None:
    assert scale_of_column("COADD:loglam", "", "", "", ("loglam",)).logarithm == "log10"
    assert scale_of_column("loglam", "", "AA", "", ("loglam",)).logarithm == ""


@pytest.mark.parametrize("text", ["log10(AA)", "log(Angstrom)", "LOG10"])
def test_logarithms_are_split_from_their_unit(text: str) -> None:
    word, unit = split_logarithm(text)
    assert word == "log10"
    assert parse_unit(unit) == parse_unit("Angstrom")


LINEAR = {"CRVAL": 4000.0, "CDELT": 2.0, "CRPIX": 1.0}


@pytest.mark.parametrize(
    ("cards", "expected"),
    [
        (LINEAR, 4000 + 2.0 * np.arange(5)),
        ({**LINEAR, "CRPIX": 3.0}, 3996 + 2.0 * np.arange(5)),
        ({"CRVAL": 400.0, "CDELT": 0.2, "CUNIT": "nm"}, 4000 + 2.0 * np.arange(5)),
        ({"CRVAL": 3.6, "CDELT": 1e-4, "DC-FLAG": 1}, 10 ** (3.6 + 1e-4 * np.arange(5))),
        ({"CRVAL": 3.6, "CDELT": 1e-4, "CTYPE": "LOGLAM"}, 10 ** (3.6 + 1e-4 * np.arange(5))),
        ({"CRVAL": 3.6, "CDELT": 1e-4, "CUNIT": "log(Angstrom)", "CTYPE": "LOG"}, 10 ** (3.6 + 1e-4 * np.arange(5))),
        ({"COEFF0": 3.6, "COEFF1": 1e-4}, 10 ** (3.6 + 1e-4 * np.arange(5))),
        ({**LINEAR, "CTYPE": "WAVE-LOG", "CUNIT": "Angstrom"}, 4000 * np.exp(2.0 * np.arange(5) / 4000)),
        ({"CRVAL": 7e14, "CDELT": -1e12, "CTYPE": "FREQ", "CUNIT": "Hz"}, 2.99792458e18 / (7e14 - 1e12 * np.arange(5))),
        ({**LINEAR, "CTYPE": "AWAV"}, air_to_vacuum(4000 + 2.0 * np.arange(5))),
        ({**LINEAR, "VACUUM": False}, air_to_vacuum(4000 + 2.0 * np.arange(5))),
        ({**LINEAR, "AIRORVAC": "air"}, air_to_vacuum(4000 + 2.0 * np.arange(5))),
    ],
)
def test_headers_give_wavelengths(cards: dict, expected: np.ndarray) -> None:
    axis = axis_of_header(cards, "", "")
    assert np.allclose(axis.scale.to_vacuum_aa(axis.values(5)), expected, rtol=1e-9)


def test_the_user_overrules_the_header() -> None:
    axis = axis_of_header({**LINEAR, "CTYPE": "AWAV"}, "nm", "vacuum")
    assert axis.scale.to_vacuum_aa(axis.values(1))[0] == pytest.approx(40000.0)


def test_a_header_without_a_wavelength_gives_none_and_a_nonlinear_one_is_refused() -> None:
    assert axis_of_header({"CTYPE": "WAVE"}, "", "") is None
    assert axis_of_header(None, "", "") is None
    with pytest.raises(DataError, match=r"MULTISPE.*ingest any"):
        axis_of_header({**LINEAR, "CTYPE": "MULTISPE"}, "", "")


def test_what_nobody_states_is_assumed_and_marked_so() -> None:
    scale = axis_of_header(LINEAR, "", "").scale
    assert (scale.unit, scale.is_air) == ("Angstrom", False)
    assert not scale.unit_known
    assert not scale.medium_known
