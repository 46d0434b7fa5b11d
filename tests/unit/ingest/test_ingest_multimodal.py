"""Multimodal Universe: padding, masks, inverted warnings, and the same spectra as from the FITS files."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest

from hpctrain.errors import DataError
from hpctrain.ingest.bitmasks import ZWARN_UNSPECIFIED
from hpctrain.ingest.desi import DesiReader
from hpctrain.ingest.multimodal_universe import MultimodalReader
from hpctrain.ingest.table_columns import warnings_as_bits
from hpctrain.ingest.tally import Tally


def make_file(path: Path, **replaced: np.ndarray | None) -> Path:
    """Write four rows of 50 pixels as the project's writers do: two wavelength vectors, one row shorter, one empty."""
    rng = np.random.default_rng(1)
    wavelength = np.tile(10 ** (3.6 + 1e-4 * np.arange(50)), (4, 1))
    wavelength[1, 40:] = -1
    wavelength[3, :] = -1
    mask = np.zeros((4, 50), dtype=bool)
    mask[0, 7] = True
    mask[1, 40:] = True
    data = {
        "spectrum_flux": rng.normal(5, 1, (4, 50)).astype(">f4"),
        "spectrum_ivar": rng.uniform(1, 2, (4, 50)).astype(">f4"),
        "spectrum_lambda": wavelength.astype(np.float32),
        "spectrum_mask": mask,
        "object_id": np.array([b"710205666600082", b"710205666600083", b"11997690149582688256", b"4"]),
        "Z": np.array([1.0, -9999.0, 0.5, 0.1], dtype=np.float32),
        "ZWARNING": np.array([0, 4, 0, 0], dtype=np.int32),
        "CLASS": np.array([b"QSO   ", b"GALAXY", b"STAR  ", b"QSO"]),
        "ra": np.array([1.0, 2, 3, 4]),
        "dec": np.array([1.0, 2, 3, 4]),
        "healpix": np.array([380] * 4),
    }
    with h5py.File(path, "w") as file:
        for name, values in {**data, **replaced}.items():
            if values is not None:
                file[name] = values
    return path


def test_padding_is_cut_off_and_rows_of_one_length_come_together(tmp_path: Path) -> None:
    tally = Tally()
    full, short, empty = MultimodalReader().read(make_file(tmp_path / "001-of-001.hdf5"), tally)
    assert full.flux.shape == (2, 50)
    assert full.columns["source_row"].tolist() == [0, 2]
    assert short.flux.shape == (1, 40)
    assert empty.reasons == ["wavelengths are padding only"]
    assert tally.num_read == 4
    assert full.ivar[0, 7] == 0
    assert full.flux.dtype.isnative


def test_columns_are_understood(tmp_path: Path) -> None:
    full, short, _ = MultimodalReader().read(make_file(tmp_path / "a.hdf5"), Tally())
    assert full.columns["target_id"].tolist() == [710205666600082, 11997690149582688256 - 2**64]
    assert full.columns["spectype"].tolist() == [b"QSO", b"STAR"]
    assert np.isnan(short.columns["redshift"][0])
    assert short.columns["zwarn"][0] == 4


def test_a_bool_zwarn_is_inverted_and_a_bool_zwarning_is_not() -> None:
    values = np.array([True, False])
    assert warnings_as_bits(values, "ZWARN").tolist() == [0, ZWARN_UNSPECIFIED]
    assert warnings_as_bits(values, "ZWARNING").tolist() == [ZWARN_UNSPECIFIED, 0]
    assert warnings_as_bits(np.array([0, 5]), "ZWARN").tolist() == [0, 5]
    assert warnings_as_bits(np.array([0.0, np.nan]), "ZWARN").tolist() == [0, -1]


@pytest.mark.parametrize(
    ("replaced", "message"),
    [
        ({"spectrum_ivar": None}, "no spectrum_ivar"),
        ({"object_id": None}, "no object_id"),
        ({"spectrum_ivar": np.ones((4, 49))}, r"shapes \(4, 50\), \(4, 49\)"),
        ({"Z": np.ones(3)}, "Z have not the 4 rows"),
    ],
)
def test_files_that_do_not_fit_together_say_how(tmp_path: Path, replaced: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(MultimodalReader().read(make_file(tmp_path / "a.hdf5", **replaced), Tally()))


def test_other_names_can_be_given(tmp_path: Path) -> None:
    path = make_file(tmp_path / "a.hdf5", Z=None, my_z=np.array([9.0, 9, 9, 9]))
    first = next(MultimodalReader({"redshift": "my_z"}).read(path, Tally()))
    assert first.columns["redshift"].tolist() == [9.0, 9.0]
    with pytest.raises(DataError, match="redshift=nope: no such column"):
        list(MultimodalReader({"redshift": "nope"}).read(path, Tally()))


@pytest.mark.slow
def test_spectra_equal_those_read_from_the_fits_files(shared_data: Path) -> None:
    direct = {}
    for path in sorted((shared_data / "desi_coadd").glob("coadd-*.fits*")):
        for block in DesiReader().read(path, Tally()):
            for row, target in enumerate(block.columns["target_id"].tolist()):
                direct[target] = (block.wavelength_aa, block.flux[row], block.ivar[row])
    num_compared = 0
    for path in sorted((shared_data / "desi_coadd" / "mmu_style").rglob("*.hdf5")):
        for block in MultimodalReader().read(path, Tally()):
            for row, target in enumerate(block.columns["target_id"].tolist()):
                wavelength, flux, ivar = direct[target]
                np.testing.assert_allclose(block.wavelength_aa, wavelength, rtol=1e-6)
                np.testing.assert_allclose(block.ivar[row], ivar, rtol=1e-5)
                np.testing.assert_allclose(block.flux[row], flux, rtol=1e-4, atol=1e-4)
                num_compared += 1
    assert num_compared == 14
