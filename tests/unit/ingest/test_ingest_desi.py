"""DESI coadds and spectra: arms, masks, exposures, redshifts."""

from __future__ import annotations

import gzip
import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from survey_files import DESI_ARMS, make_desi, make_redshifts

from hpctrain.errors import DataError
from hpctrain.ingest.arms import merge_arms, merged_lattice, split_arms
from hpctrain.ingest.block import SpectraBlock
from hpctrain.ingest.desi import DesiReader, _group_chunks
from hpctrain.ingest.redshifts import find_beside, read_redshifts
from hpctrain.ingest.tally import Tally
from hpctrain.kinds.spectra.grids import desi_grid


def read(path: Path, tally: Tally | None = None, **options: object) -> SpectraBlock:
    """Return the one block of a file."""
    (block,) = DesiReader(**options).read(path, tally or Tally())
    return block


def desispec_coadd(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Merge the cameras as desispec's coadd_cameras does, pixel by pixel in float64, after ``ivar *= (mask == 0)``."""
    with fits.open(path, memmap=False) as hdus:
        num_rows = hdus["B_FLUX"].data.shape[0]
        flux, ivar = np.zeros((num_rows, 7781)), np.zeros((num_rows, 7781))
        for band in "BRZ":
            index = np.round((hdus[f"{band}_WAVELENGTH"].data - 3600) / 0.8).astype(int)
            weight = hdus[f"{band}_IVAR"].data.astype(np.float64)
            if f"{band}_MASK" in hdus:
                weight = weight * (hdus[f"{band}_MASK"].data == 0)
            np.add.at(flux, (slice(None), index), weight * hdus[f"{band}_FLUX"].data)
            np.add.at(ivar, (slice(None), index), weight)
    return np.divide(flux, ivar, out=np.zeros_like(flux), where=ivar > 0), ivar


@pytest.mark.parametrize("mask", ["uint32", "int32", "compressed", "absent"])
@pytest.mark.parametrize("packed", [False, True])
def test_arms_are_merged_by_the_formula_of_desispec_whatever_the_mask_looks_like(
    tmp_path: Path, mask: str, packed: bool
) -> None:
    masked = {("B", 0, 2720): 1, ("R", 1, 100): 1 << 9, ("Z", 2, 2000): 1 << 31 if mask != "int32" else 4}
    path = make_desi(tmp_path / "coadd-main-dark-9144.fits", [11, 12, 13], mask=mask, masked=masked)
    expected_flux, expected_ivar = desispec_coadd(path)
    if packed:
        raw = path.read_bytes()
        path.unlink()
        path = path.with_name(f"{path.name}.gz")
        path.write_bytes(gzip.compress(raw))
    block = read(path)
    assert np.array_equal(block.wavelength_aa, desi_grid())
    np.testing.assert_allclose(block.ivar, expected_ivar, rtol=1e-6)
    np.testing.assert_allclose(block.flux, expected_flux, rtol=1e-6, atol=1e-6)
    if mask != "absent":
        assert block.ivar[1, 2800] == 0  # R pixel 100, seen by no other arm
        assert block.ivar[0, 2720] > 0  # B pixel 2720 lies in the overlap: R still sees it
    assert block.columns["survey"][0] == b"main"
    assert block.columns["healpix"][0] == 9144


def test_pixels_that_one_arm_sees_are_not_changed_by_a_bit(tmp_path: Path) -> None:
    path = make_desi(tmp_path / "coadd-x.fits", [11, 12, 13])
    block = read(path)
    with fits.open(path, memmap=False) as hdus:
        assert np.array_equal(block.flux[:, :2700], hdus["B_FLUX"].data[:, :2700])
        assert np.array_equal(block.ivar[:, -2700:], hdus["Z_IVAR"].data[:, -2700:])


def test_a_masked_pixel_of_one_arm_does_not_come_out_clean(tmp_path: Path) -> None:
    """desispec clears the mask wherever ivar > 0, and so lets bad pixels through."""
    path = make_desi(tmp_path / "coadd-x.fits", [11], masked={("B", 0, 100): 2})
    block = read(path)
    assert block.ivar[0, 100] == 0
    assert block.flux[0, 100] == 0


def test_no_fibermap_gives_stable_ids_and_says_so(tmp_path: Path) -> None:
    tally = Tally()
    block = read(make_desi(tmp_path / "coadd-x.fits", None), tally)
    assert len(set(block.columns["target_id"].tolist())) == 3
    assert (block.columns["target_id"] > 0).all()
    assert np.array_equal(block.columns["target_id"], read(tmp_path / "coadd-x.fits").columns["target_id"])
    assert "no FIBERMAP" in next(iter(tally.remarks))


def test_rows_that_are_no_targets_say_why(tmp_path: Path) -> None:
    path = make_desi(
        tmp_path / "coadd-x.fits",
        [1, 2, -3, 4, 5, 6],
        columns={
            "OBJTYPE": ["TGT", "SKY", "", "BAD", "TGT", "TGT"],
            "COADD_FIBERSTATUS": [0, 0, 0, 0, 1 << 9, (1 << 3) | (1 << 1)],
            "TARGET_RA": [10.0, 10, 10, 10, 10, -9999.0],
        },
    )
    block = read(path)
    assert block.reasons == [
        "",
        "sky fibre",
        "no target (TARGETID < 0: stuck or sky fibre)",
        "no target (OBJTYPE BAD)",
        "bad fibre (FIBERSTATUS)",
        "",
    ]
    assert np.isnan(block.columns["ra"][5])


def test_a_bad_amplifier_costs_only_its_arm(tmp_path: Path) -> None:
    tally = Tally()
    path = make_desi(tmp_path / "coadd-x.fits", [1, 2], columns={"COADD_FIBERSTATUS": [1 << 23, 0]})
    block = read(path, tally)
    assert block.reasons == ["", ""]
    assert not block.ivar[0, 2800:4800].any()
    assert block.ivar[0, :2700].all()
    assert block.ivar[1].all()
    assert tally.remarks["R arm masked: BADAMPR in FIBERSTATUS"] == 1


def test_exposures_of_a_target_are_coadded_by_inverse_variance(tmp_path: Path) -> None:
    path = make_desi(
        tmp_path / "spectra-x.fits",
        [7, 8, 7, 7],
        columns={"FIBERSTATUS": [0, 0, 0, 1 << 9]},
        masked={("B", 0, 10): 1},
    )
    tally = Tally()
    block = read(path, tally)
    flux, ivar = desispec_coadd(path)
    assert block.columns["target_id"].tolist() == [7, 8, 7]
    assert block.reasons == ["", "", "bad fibre (FIBERSTATUS)"]
    assert block.columns["num_exposures"].tolist() == [2, 1, 1]
    assert tally.num_merged == 1
    np.testing.assert_allclose(block.ivar[0], ivar[0] + ivar[2], rtol=1e-6)
    mean = (ivar[0] * flux[0] + ivar[2] * flux[2]) / (ivar[0] + ivar[2])
    np.testing.assert_allclose(block.flux[0], mean, rtol=1e-5, atol=1e-6)
    assert block.ivar[0, 10] == pytest.approx(ivar[2, 10], rel=1e-6)
    rows = read(path, exposures="rows")
    assert rows.columns["target_id"].tolist() == [7, 8, 7, 7]


def test_chunks_never_cut_a_target() -> None:
    groups = np.repeat(np.arange(6), [3, 1, 4, 2, 5, 1])
    chunks = list(_group_chunks(groups, 5))
    assert chunks[0][0] == 0
    assert chunks[-1][1] == len(groups)
    assert all(begin == end for (_, end), (begin, _) in itertools.pairwise(chunks))
    assert all(groups[end - 1] != groups[end] for _, end in chunks[:-1])
    assert list(_group_chunks(groups[:0], 5)) == []


def test_many_rows_come_in_blocks_and_lose_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = {"B": (3600.0, 40), "R": (3624.0, 40)}
    path = make_desi(tmp_path / "spectra-x.fits", [5, 6, 5, 7, 8, 6, 9], arms=arms)
    whole = read(path)
    monkeypatch.setattr("hpctrain.ingest.desi.ROWS_AT_ONCE", 2)
    blocks = list(DesiReader().read(path, Tally()))
    assert len(blocks) > 2
    assert np.array_equal(np.concatenate([block.flux for block in blocks]), whole.flux)
    assert np.concatenate([block.columns["target_id"] for block in blocks]).tolist() == [5, 6, 7, 8, 9]


def test_redrock_beside_the_file_is_joined_by_target_id(tmp_path: Path) -> None:
    path = make_desi(tmp_path / "coadd-main-dark-9144.fits", [11, 12, 13])
    make_redshifts(
        tmp_path / "redrock-main-dark-9144.fits",
        "REDSHIFTS",
        {"TARGETID": [13, 11], "Z": [0.3, 2.1], "ZERR": [1e-4, 1e-3], "ZWARN": [0, 4], "SPECTYPE": ["GALAXY", "QSO"]},
    )
    columns = read(path).columns
    assert columns["redshift"][[0, 2]].tolist() == [2.1, 0.3]
    assert np.isnan(columns["redshift"][1])
    assert columns["zwarn"].tolist() == [4, -1, 0]
    assert columns["spectype"].tolist() == [b"QSO", b"", b"GALAXY"]


def test_redrock_is_found_beside_gzipped_files_too(tmp_path: Path) -> None:
    (tmp_path / "redrock-a.fits").touch()
    assert find_beside(tmp_path / "coadd-a.fits.gz") == tmp_path / "redrock-a.fits"
    (tmp_path / "zbest-b.fits.gz").touch()
    assert find_beside(tmp_path / "spectra-b.fits") == tmp_path / "zbest-b.fits.gz"
    assert find_beside(tmp_path / "coadd-c.fits") is None


def test_a_catalogue_comes_before_redrock_and_prefers_the_survey_of_the_file(tmp_path: Path) -> None:
    path = make_desi(tmp_path / "coadd-main-dark-9144.fits", [11, 12, 13])
    make_redshifts(tmp_path / "redrock-main-dark-9144.fits", "REDSHIFTS", {"TARGETID": [11, 12, 13], "Z": [1.0, 1, 1]})
    catalogue = make_redshifts(
        tmp_path / "zall.fits",
        "ZCATALOG",
        {
            "TARGETID": [11, 11, 12, 12],
            "Z": [0.1, 0.2, -9999.0, -9999.0],
            "ZWARN": [0, 0, 0, 0],
            "SURVEY": ["sv3", "main", "main", "sv1"],
            "PROGRAM": ["dark", "dark", "dark", "dark"],
            "ZCAT_PRIMARY": [True, False, True, False],
        },
    )
    columns = read(path, redshifts=read_redshifts([catalogue])).columns
    # 11: the row of main/dark, not the primary one; 12: the catalogue has none, redrock has; 13: only redrock.
    assert columns["redshift"].tolist() == [0.2, 1.0, 1.0]
    table = read_redshifts([catalogue])
    assert table.redshift[table.find(np.array([11]))[0]] == 0.1


def test_a_quasar_catalogue_says_that_its_targets_are_quasars(tmp_path: Path) -> None:
    table = read_redshifts([make_redshifts(tmp_path / "QSO_cat.fits", "QSO_CAT", {"TARGETID": [5], "Z": [2.0]})])
    assert table.spectype.tolist() == [b"QSO"]
    with pytest.raises(DataError, match="TARGETID and Z"):
        read_redshifts([make_redshifts(tmp_path / "none.fits", "OTHER", {"TARGETID": [5]})])
    with pytest.raises(DataError, match="no such file"):
        read_redshifts([tmp_path / "absent.fits"])


def test_a_broken_redrock_is_reported_and_the_spectra_are_kept(tmp_path: Path) -> None:
    path = make_desi(tmp_path / "coadd-x.fits", [1, 2])
    (tmp_path / "redrock-x.fits").write_text("nothing")
    tally = Tally()
    assert len(read(path, tally)) == 2
    assert tally.failed_files[0][0].endswith("redrock-x.fits")


def test_arms_without_a_common_lattice_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not on one linear lattice"):
        read(make_desi(tmp_path / "coadd-x.fits", [1], arms={"B": (3600.0, 100), "R": (3650.3, 100)}))


def test_files_that_hold_no_desi_spectra_name_their_hdus(tmp_path: Path) -> None:
    path = make_redshifts(tmp_path / "coadd-x.fits", "REDSHIFTS", {"TARGETID": [1], "Z": [1.0]})
    with pytest.raises(DataError, match=r"no arms.*REDSHIFTS"):
        read(path)
    path = make_desi(tmp_path / "coadd-y.fits", [1, 2])
    with fits.open(path) as hdus:
        del hdus["R_IVAR"]
        hdus.writeto(tmp_path / "coadd-z.fits")
    with pytest.raises(DataError, match="no R_IVAR"):
        read(tmp_path / "coadd-z.fits")


def test_another_flux_unit_is_refused(tmp_path: Path) -> None:
    path = make_desi(tmp_path / "coadd-x.fits", [1])
    fits.setval(path, "BUNIT", value="erg/s/cm2/Angstrom", extname="B_FLUX")
    with pytest.raises(DataError, match="not in 1e-17"):
        read(path)


def test_an_uncoadded_vector_is_cut_into_its_arms() -> None:
    vector = np.concatenate([start + 0.8 * np.arange(size) for start, size in DESI_ARMS.values()])
    arms = split_arms(vector.astype(np.float32))
    assert [arm.stop - arm.start for arm in arms] == [2751, 2326, 2881]
    wavelength, positions = merged_lattice([vector.astype(np.float32)[arm] for arm in arms])
    assert np.array_equal(wavelength, desi_grid())
    ones = [np.ones((1, len(position)), dtype=np.float32) for position in positions]
    _, ivar = merge_arms(7781, positions, ones, ones)
    assert Counter(ivar[0].tolist()) == {1.0: 7781 - 51 - 126, 2.0: 51 + 126}
    with pytest.raises(DataError, match="twice in a row"):
        split_arms(np.array([1.0, 2.0, 2.0]))
    with pytest.raises(DataError, match="steps back"):
        split_arms(np.random.default_rng(1).uniform(4000, 5000, 100))


@pytest.mark.slow
def test_real_coadds_equal_the_desispec_formula(shared_data: Path) -> None:
    names = ("coadd-1-80693-thru20210204.fits.gz", "coadd-4-80613-thru20210324.fits", "coadd-sv3-dark-26065.fits.gz")
    for name in (*names, "coadd-sv3-dark-9144.fits", "coadd-special-dark-27247.fits", "quasarnp_test_coadd_25.fits.gz"):
        block = read(shared_data / "desi_coadd" / name)
        flux, ivar = desispec_coadd(shared_data / "desi_coadd" / name)
        good = block.ivar > 0
        np.testing.assert_allclose(block.ivar[good], ivar[good], rtol=1e-6)
        np.testing.assert_allclose(block.flux[good], flux[good], rtol=1e-5, atol=1e-5)
        assert np.array_equal(good, ivar > 1e-6)


def test_real_rows_are_sorted_into_targets_and_others(shared_data: Path) -> None:
    coadd = read(shared_data / "desi_coadd" / "coadd-sv3-dark-26065.fits.gz")
    assert Counter(coadd.reasons) == {"": 2, "no target (TARGETID < 0: stuck or sky fibre)": 2, "sky fibre": 1}
    joined = read(shared_data / "desi_coadd" / "coadd-4-80613-thru20210324.fits")
    assert joined.columns["redshift"][0] == pytest.approx(0.36874355, abs=1e-6)
    assert joined.columns["spectype"][0] == b"GALAXY"
