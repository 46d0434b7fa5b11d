"""Real files of other surveys come in with their labels: MILES stars, SNID supernovae, npz files of DESI."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.io import fits

from hpctrain.cli import main
from hpctrain.preprocess.wavelength import air_to_vacuum

pytestmark = pytest.mark.shared_data


def ingest(*arguments: object) -> int:
    """Call the command and return its exit code."""
    return main(["ingest", *(str(argument) for argument in arguments)])


def read(path: Path) -> dict[str, np.ndarray]:
    """Return all columns of a file."""
    with h5py.File(path) as file:
        return {name: values[...] for name, values in file.items() if isinstance(values, h5py.Dataset)}


def test_miles_stars_come_in_with_their_parameters(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "miles_stars" / "miles_984.h5"
    options = ("--air", "--assume-snr", 50, "--column", "target_id=miles_id", "teff", "logg", "feh")
    assert ingest("hdf5", source, *options, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    with h5py.File(source) as file:
        assert np.array_equal(found["flux"], file["flux"][:])
        for label in ("teff", "logg", "feh"):
            assert np.array_equal(found[label], file[label][:], equal_nan=True)
        assert np.allclose(found["wavelength"], air_to_vacuum(file["wave"][:].astype(float)))
        assert found["target_id"].tolist() == [int(each) for each in file["miles_id"][:]]
    assert np.isnan(found["redshift"]).all()


def test_the_miles_fits_files_hold_the_same_spectra(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "miles_stars").glob("MILES_*.fits"))
    assert ingest("fits", *files, "--air", "--assume-snr", 50, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], air_to_vacuum(3540.5 + 0.9 * np.arange(4300)))
    for row, path in enumerate(files):
        assert np.allclose(found["flux"][row], fits.getdata(path), rtol=1e-6)


def test_supernova_templates_come_in_with_type_and_phase(shared_data: Path, tmp_path: Path) -> None:
    folder = shared_data / "sn_spectra_snid"
    columns = ("flux=flux_int16", "target_id=sn_name", "type", "phase=phase_days")
    options = ("--column", *columns, "--flux-unit", "0.001", "--value", "redshift=0", "--assume-snr", 20)
    assert ingest("hdf5", folder / "snid_templates_4813.h5", *options, "--out", tmp_path / "all.h5") == 0
    assert ingest("table", *sorted(folder.glob("*.lnw")), "--assume-snr", 20, "--out", tmp_path / "two.h5") == 0
    everything, two = read(tmp_path / "all.h5"), read(tmp_path / "two.h5")
    assert len(everything["flux"]) == 4813
    assert len(np.unique(everything["target_id"])) == len(np.unique(everything["name"])) == 506
    assert len(np.unique(everything["type"])) == 18
    # The two text files are two of the supernovae of the large file.
    same = everything["name"] == b"PTF12gzk"
    text = two["name"] == b"PTF12gzk"
    assert np.allclose(everything["flux"][same], two["flux"][text], atol=1e-6)
    assert np.array_equal(everything["phase"][same].astype(np.float32), two["phase"][text].astype(np.float32))
    assert set(two["type"]) == {b"Ic-norm", b"Ia-91bg"}


def test_npz_files_of_desi_come_in(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "desi_npz").glob("heldout_*.npz"))
    options = ("--column", "redshift=z_true", "target_id=object_id", "--flux-unit", "1e-17 erg s-1 cm-2 AA-1")
    assert ingest("table", *files, *options, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    for row, path in enumerate(files):
        with np.load(path) as source:
            good = found["ivar"][row] > 0
            assert np.array_equal(good, (source["ivar"] > 0) & ~source["mask"])
            assert np.array_equal(found["flux"][row][good], source["flux"][good])
            assert np.allclose(found["ivar"][row][good], source["ivar"][good], rtol=1e-6)
            assert found["redshift"][row] == pytest.approx(float(source["z_true"]))
            assert found["target_id"][row] == int(str(source["object_id"]))


def test_npz_files_of_many_spectra_come_in_with_a_mask_of_good_pixels(shared_data: Path, tmp_path: Path) -> None:
    files = sorted((shared_data / "desi_npz").glob("desi_log7081_*.npz"))
    options = ("--column", "flux=flux_norm", "good=valid", "--measure-noise", "--grid", "native")
    assert ingest("table", *files, *options, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    valid = np.concatenate([np.load(path)["valid"] for path in files]).astype(bool)
    assert not found["ivar"][~valid].any()
    assert (found["ivar"][valid] > 0).mean() > 0.999
    assert np.array_equal(found["redshift"], np.concatenate([np.load(path)["z"] for path in files]).astype(float))
