"""Parquet tables: list columns, un-coadded vectors, malformed rows."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from survey_files import DESI_ARMS

from hpctrain.errors import DataError
from hpctrain.ingest.arms import merge_arms, merged_lattice
from hpctrain.ingest.parquet import ParquetReader
from hpctrain.ingest.tally import Tally
from hpctrain.kinds.spectra.grids import desi_grid

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

UNCOADDED = np.concatenate([start + 0.8 * np.arange(size) for start, size in DESI_ARMS.values()])


def make_table(path: Path, wavelengths: list, **columns: list) -> Path:
    """Write a tile in the columns of radioastronomyio, its flux and ivar random."""
    rng = np.random.default_rng(1)
    count = len(wavelengths)
    sizes = [0 if wavelength is None else len(wavelength) for wavelength in wavelengths]
    data = {
        "target_id": list(range(100, 100 + count)),
        "ra": [10.0] * count,
        "dec": [-5.0] * count,
        "z": [2.5] * count,
        "wavelength": wavelengths,
        "flux": [rng.normal(3, 1, size).tolist() for size in sizes],
        "ivar": [rng.uniform(1, 2, size).tolist() for size in sizes],
        "mask_array": [[0] * size for size in sizes],
        **columns,
    }
    pq.write_table(pa.table({name: values for name, values in data.items() if values is not None}), path)
    return path


def test_uncoadded_vectors_are_coadded_by_inverse_variance(tmp_path: Path) -> None:
    tally = Tally()
    path = make_table(tmp_path / "a.parquet", [UNCOADDED.tolist()] * 3)
    (block,) = ParquetReader().read(path, tally)
    assert np.array_equal(block.wavelength_aa, desi_grid())
    table = pq.read_table(path)
    flux, ivar = (np.array(table[name].to_pylist()) for name in ("flux", "ivar"))
    blue, red = slice(2700, 2751), slice(2751, 2802)
    np.testing.assert_allclose(block.ivar[:, 2700:2751], ivar[:, blue] + ivar[:, red], rtol=1e-6)
    mean = (ivar[:, blue] * flux[:, blue] + ivar[:, red] * flux[:, red]) / (ivar[:, blue] + ivar[:, red])
    np.testing.assert_allclose(block.flux[:, 2700:2751], mean, rtol=1e-5)
    assert "7958 pixels, 3 arms coadded" in next(iter(tally.remarks))
    assert block.columns["redshift"].tolist() == [2.5] * 3


def test_uncoadded_vectors_without_a_lattice_are_refused(tmp_path: Path) -> None:
    odd = np.concatenate([4000 + np.arange(50.0), 4030.3 + np.arange(50.0)])
    (block,) = ParquetReader().read(make_table(tmp_path / "a.parquet", [odd.tolist()]), Tally())
    assert block.reasons[0].startswith("un-coadded: arms are not on one linear lattice")


def test_rows_of_different_grids_come_in_different_blocks_and_malformed_ones_say_why(tmp_path: Path) -> None:
    short, long = (4000 + np.arange(30.0)).tolist(), (4000 + np.arange(40.0)).tolist()
    disorder = np.random.default_rng(2).permutation(long).tolist()
    path = make_table(
        tmp_path / "a.parquet",
        [short, long, short, None, disorder, long],
        flux=[short, long, short, None, long, short],
        mask_array=[[1] + [0] * 29, [0] * 40, [0] * 30, None, [0] * 40, [0] * 40],
    )
    tally = Tally()
    blocks = list(ParquetReader().read(path, tally))
    kept = {tuple(block.columns["source_row"].tolist()): block for block in blocks if len(block.wavelength_aa)}
    assert set(kept) == {(0, 2), (1,)}
    assert kept[(0, 2)].ivar[0, 0] == 0
    assert kept[(0, 2)].ivar[1, 0] > 0
    reasons = [reason for block in blocks for reason in block.reasons if reason]
    assert reasons == [
        "no flux and ivar and wavelength and mask",
        "wavelength is neither increasing nor a few camera arms",
        "flux, ivar, wavelength (and mask) have different lengths",
    ]
    assert tally.num_read == 6


def test_missing_columns_name_those_there_are(tmp_path: Path) -> None:
    path = make_table(tmp_path / "a.parquet", [[1.0, 2.0]], ivar=None)
    with pytest.raises(DataError, match=r"no column for ivar.*target_id, ra.*--column ivar=NAME"):
        list(ParquetReader().read(path, Tally()))


def test_columns_with_other_names_are_read(tmp_path: Path) -> None:
    path = make_table(tmp_path / "a.parquet", [[4000.0, 4001.0]], ivar=None, weight=[[2.0, 3.0]])
    (block,) = ParquetReader({"ivar": "weight"}).read(path, Tally())
    assert block.ivar.tolist() == [[2.0, 3.0]]


def test_a_column_of_single_numbers_is_no_spectrum(tmp_path: Path) -> None:
    path = make_table(tmp_path / "a.parquet", [[4000.0, 4001.0]], flux=[1.0])
    with pytest.raises(DataError, match="single numbers"):
        list(ParquetReader().read(path, Tally()))


def test_without_pyarrow_the_error_says_how_to_install_it() -> None:
    program = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "from hpctrain.errors import DataError\n"
        "from hpctrain.ingest.parquet import ParquetReader\n"
        "try:\n    ParquetReader()\nexcept DataError as error:\n    print(error)\n"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "pip install 'hpctrain[parquet]'" in result.stdout


def test_a_real_coadd_written_uncoadded_gives_the_merged_spectrum(tmp_path: Path, shared_data: Path) -> None:
    from astropy.io import fits

    with fits.open(shared_data / "desi_coadd" / "coadd-sv3-dark-9144.fits", memmap=False) as hdus:
        arms = {
            kind: [hdus[f"{band}_{kind}"].data for band in "BRZ"] for kind in ("WAVELENGTH", "FLUX", "IVAR", "MASK")
        }
        targets = hdus["FIBERMAP"].data["TARGETID"].tolist()
    path = make_table(
        tmp_path / "a.parquet",
        [np.concatenate(arms["WAVELENGTH"]).tolist()] * 2,
        target_id=targets,
        flux=np.concatenate(arms["FLUX"], axis=1).astype(float).tolist(),
        ivar=np.concatenate(arms["IVAR"], axis=1).astype(float).tolist(),
        mask_array=np.concatenate(arms["MASK"], axis=1).astype(int).tolist(),
    )
    (block,) = ParquetReader().read(path, Tally())
    _, positions = merged_lattice(arms["WAVELENGTH"])
    ivars = [np.where(mask == 0, ivar, 0) for ivar, mask in zip(arms["IVAR"], arms["MASK"], strict=True)]
    flux, ivar = merge_arms(7781, positions, arms["FLUX"], ivars)
    assert block.columns["target_id"].tolist() == targets
    good = block.ivar > 0
    assert np.array_equal(block.ivar[good], ivar[good])
    assert np.array_equal(block.flux[good], flux[good])
