"""SDSS, BOSS, eBOSS: every trap that the real files hold."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from survey_files import cut_gzip, make_sdss

from hpctrain.errors import DataError
from hpctrain.ingest.bitmasks import SDSS_BAD_BITS, SDSS_PIXEL_BITS, combine_bits
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.fits_table import read_bytes, read_hdus
from hpctrain.ingest.sdss import SdssReader
from hpctrain.ingest.tally import Tally
from hpctrain.kinds.spectra.grids import sdss_grid
from hpctrain.preprocess.grid import find_offset


def read(path: Path, **options: object) -> SpectraBlock:
    """Return the one block of a file."""
    (block,) = SdssReader(**options).read(path, Tally())
    return block


def test_wavelengths_come_from_the_column_and_not_from_the_header(tmp_path: Path) -> None:
    block = read(make_sdss(tmp_path, loglam0=3.5600))
    assert block.wavelength_aa[0] == pytest.approx(10**3.56, rel=1e-12)


def test_float32_rounding_of_loglam_is_undone(tmp_path: Path) -> None:
    block = read(make_sdss(tmp_path))
    steps = np.log10(block.wavelength_aa) * 1e4
    assert np.abs(steps - np.round(steps)).max() < 1e-8
    assert find_offset(block.wavelength_aa, sdss_grid()) == 100


def test_wavelengths_off_the_lattice_are_left_as_they_are(tmp_path: Path) -> None:
    block = read(make_sdss(tmp_path, loglam0=3.56003))
    assert block.wavelength_aa[0] == pytest.approx(10 ** np.float64(np.float32(3.56003)), rel=1e-12)


@pytest.mark.parametrize("upper", [False, True])
@pytest.mark.parametrize("named_hdus", [False, True])
def test_case_of_columns_and_names_of_hdus_do_not_matter(tmp_path: Path, upper: bool, named_hdus: bool) -> None:
    block = read(make_sdss(tmp_path, upper=upper, named_hdus=named_hdus))
    assert block.columns["spectype"][0] == b"QSO"
    assert block.columns["redshift"][0] == 1.5
    assert block.reasons == [""]


def test_arrays_come_in_native_byte_order(tmp_path: Path) -> None:
    block = read(make_sdss(tmp_path))
    assert block.flux.dtype == block.ivar.dtype == np.dtype("=f4")
    assert block.flux.mean() == pytest.approx(5, abs=0.3)


def test_gzip_is_recognised_by_its_bytes(tmp_path: Path) -> None:
    plain = make_sdss(tmp_path)
    packed = tmp_path / "spec-3586-55181-0002.fits"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert np.array_equal(read(plain).flux, read(packed).flux)


def test_only_bits_that_make_a_pixel_useless_mask_it(tmp_path: Path) -> None:
    path = make_sdss(tmp_path, and_mask={10: 23, 11: 24, 12: 17, 13: 28}, ivar_zero=(20,))
    assert np.flatnonzero(read(path).ivar[0] == 0).tolist() == [11, 13, 20]
    assert np.flatnonzero(read(path, bad_bits=combine_bits(["any"])).ivar[0] == 0).tolist() == [10, 11, 12, 13, 20]
    assert np.flatnonzero(read(path, bad_bits=combine_bits(["none"])).ivar[0] == 0).tolist() == [20]
    assert np.flatnonzero(read(path, bad_bits=combine_bits(["BRIGHTSKY"])).ivar[0] == 0).tolist() == [10, 20]


def test_an_unknown_bit_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(DataError, match=r"BRIGTHSKY.*BRIGHTSKY"):
        combine_bits(["BRIGTHSKY"])
    assert set(SDSS_BAD_BITS) <= set(SDSS_PIXEL_BITS)


@pytest.mark.parametrize("facts", [{"ZWARNING": 1, "OBJTYPE": "GALAXY"}, {"ZWARNING": 4, "OBJTYPE": "SKY"}])
def test_a_sky_fibre_has_no_class_and_no_redshift(tmp_path: Path, facts: dict) -> None:
    block = read(make_sdss(tmp_path, Z=6.88, **facts))
    assert block.reasons == ["sky fibre"]
    assert block.columns["spectype"][0] == b"SKY"
    assert np.isnan(block.columns["redshift"][0])


def test_an_unplugged_fibre_is_a_bad_fibre(tmp_path: Path) -> None:
    assert read(make_sdss(tmp_path, ZWARNING=1 << 7)).reasons == ["bad fibre (ZWARNING UNPLUGGED or NODATA)"]


def test_minus_9999_is_not_a_number(tmp_path: Path) -> None:
    block = read(make_sdss(tmp_path, Z=-9999.0, Z_ERR=-1.0, PLUG_RA=-9999.0))
    assert np.isnan([block.columns[name][0] for name in ("redshift", "redshift_error", "ra")]).all()


@pytest.mark.parametrize("value", ["4115436376551608320", "11997690149582688256", "   299492975510054912"])
def test_specobjid_is_read_beyond_the_range_of_int64(tmp_path: Path, value: str) -> None:
    assert int(read(make_sdss(tmp_path, SPECOBJID=value)).columns["specobjid"][0]) == int(value)


def test_a_file_without_metadata_keeps_its_spectrum_and_takes_its_name(tmp_path: Path) -> None:
    tally = Tally()
    (block,) = SdssReader().read(make_sdss(tmp_path, metadata=False), tally)
    assert [int(block.columns[name][0]) for name in ("plate", "mjd", "fiber")] == [3586, 55181, 1]
    assert np.isnan(block.columns["redshift"][0])
    assert "no metadata" in next(iter(tally.remarks))


def test_damaged_and_foreign_files_say_what_is_wrong(tmp_path: Path) -> None:
    good = make_sdss(tmp_path)
    (tmp_path / "empty.fits").touch()
    (tmp_path / "text.fits").write_text("not a FITS file")
    (tmp_path / "cut.fits").write_bytes(good.read_bytes()[:9000])
    (tmp_path / "header.fits").write_bytes(good.read_bytes()[:2000])
    cut_gzip(tmp_path / "cut.fits.gz", good)
    fits.PrimaryHDU(np.zeros((3, 4), dtype=np.float32)).writeto(tmp_path / "image.fits")
    fits.HDUList(
        [fits.PrimaryHDU(), fits.BinTableHDU.from_columns([fits.Column("flux", "E", array=[1.0, 2.0])])]
    ).writeto(tmp_path / "columns.fits")
    expected = {
        "empty.fits": "is empty",
        "text.fits": "not a FITS file",
        "cut.fits": "is cut off",
        "header.fits": "no END card",
        "cut.fits.gz": "damaged gzip",
        "image.fits": "no table in HDU 1",
        "columns.fits": "lacks IVAR, LOGLAM",
    }
    for name, message in expected.items():
        with pytest.raises(DataError, match=message):
            read(tmp_path / name)


def test_wavelengths_in_air_are_refused(tmp_path: Path) -> None:
    path = make_sdss(tmp_path)
    fits.setval(path, "VACUUM", value=False)
    with pytest.raises(DataError, match="in air"):
        read(path)


def test_the_quick_reader_agrees_with_astropy_on_every_type_of_column(tmp_path: Path) -> None:
    columns = [
        fits.Column("ints", "J", array=[1, -2]),
        fits.Column("unsigned", "K", bzero=2**63, array=np.array([1, 2**63 + 5], dtype=np.uint64)),
        fits.Column("short", "I", bzero=2**15, array=np.array([1, 65535], dtype=np.uint16)),
        fits.Column("scaled", "E", bscale=2.0, bzero=1.0, array=np.array([3.0, 5.0])),
        fits.Column("five", "5E", array=np.arange(10.0).reshape(2, 5)),
        fits.Column("text", "7A", array=["O'Neil", "b"]),
        fits.Column("bytes", "B", array=np.array([1, 255], dtype=np.uint8)),
    ]
    path = tmp_path / "table.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns, name="O'NEIL")]).writeto(path)
    (_, table) = read_hdus(read_bytes(path), limit=2)
    assert table.name == "O'NEIL"
    with fits.open(path) as hdus:
        for name in hdus[1].data.names:
            expected = np.asarray(hdus[1].data[name])
            actual = table.column(name)
            assert np.array_equal(actual, expected.astype("S") if expected.dtype.kind == "U" else expected), name
    assert actual.dtype.isnative


@pytest.mark.slow
def test_every_real_file_is_read_and_equals_astropy(shared_data: Path) -> None:
    with open(shared_data / "sdss_spec" / "labels.csv", newline="") as stream:
        labels = {row["file"]: row for row in csv.DictReader(stream)}
    reasons: Counter[str] = Counter()
    paths = sorted((shared_data / "sdss_spec").glob("*.fits.gz"))
    assert len(paths) == 186
    for number, path in enumerate(paths):
        block = read(path, bad_bits=0)
        reasons.update(block.reasons)
        label = labels[path.name.removesuffix(".gz")]
        assert int(block.columns["plate"][0]) == int(label["plate"])
        assert int(block.columns["fiber"][0]) == int(label["fiberid"])
        assert find_offset(block.wavelength_aa, sdss_grid()) is not None
        assert (block.reasons[0] == "sky fibre") == (label["is_sky"] == "True")
        if label["is_sky"] == "False":
            assert block.columns["redshift"][0] == pytest.approx(float(label["z"]), rel=1e-6)
            assert block.columns["spectype"][0].decode() == label["cls"]
        if number % 10 == 0:
            with fits.open(path, memmap=False) as hdus:
                data, names = hdus[1].data, {name.lower(): name for name in hdus[1].data.names}
                good = block.ivar[0] > 0
                assert np.array_equal(block.flux[0][good], data[names["flux"]][good])
                assert np.array_equal(block.ivar[0][good], data[names["ivar"]][good])
                np.testing.assert_allclose(np.log10(block.wavelength_aa), data[names["loglam"]], atol=4e-7)
    assert reasons == {"": 178, "sky fibre": 8}
