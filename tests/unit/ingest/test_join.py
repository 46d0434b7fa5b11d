"""``hpctrain data join``: labels of a catalogue become columns of a file of spectra."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pyarrow.parquet
import pytest
from astropy.table import Table
from kinds.spectra import write_file

from hpctrain.cli import main
from hpctrain.samples.fingerprint import settle_time, write_hashes

N = 6
IDS = np.array([11, 12, 13, 14, 15, 3_000_000_000_000_000_001])


@pytest.fixture
def spectra(tmp_path):
    path = tmp_path / "spectra.h5"
    write_file(path, np.ones((N, 20), "f4"), target_id=IDS)
    with h5py.File(path, "a") as file:
        file["ra"], file["dec"] = 10.0 + np.arange(N), np.full(N, -5.0)
        file["name"] = np.array([f"J{number:02d}" for number in range(N)], dtype="S4")
        write_hashes(file)
    settle_time(path)
    return path


def join(spectra, catalogue, *arguments):
    out = spectra.with_name("joined.h5")
    return main(["data", "join", str(spectra), str(catalogue), "--out", str(out), *arguments]), out


def catalogue(path, **columns):
    Table(columns).write(path)
    return path


@pytest.mark.parametrize("suffix", ["fits", "csv", "ecsv", "parquet", "vot"])
def test_values_go_to_the_spectra_with_the_same_id_in_any_order(spectra, tmp_path, capsys, suffix):
    path = tmp_path / f"stars.{suffix}"
    columns = {"OBJ": IDS[[5, 1, 0]], "TEFF": [7000.0, 5200.0, 4100.0], "KIND": ["F", "G", "K"], "N": [1, 2, 3]}
    if suffix == "parquet":
        pyarrow.parquet.write_table(pyarrow.table(columns), path)
    else:
        Table(columns).write(path, **({"format": "votable"} if suffix == "vot" else {}))
    code, out = join(spectra, path, "--on", "target_id=OBJ", "--column", "teff=TEFF", "KIND", "n=N")
    assert code == 0
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["teff"][:], [4100, 5200, np.nan, np.nan, np.nan, 7000])
        assert file["KIND"][:].tolist() == [b"K", b"G", b"", b"", b"", b"F"]
        np.testing.assert_array_equal(file["n"][:], [3, 2, np.nan, np.nan, np.nan, 1])
        told = json.loads(file["teff"].attrs["joined"])
        assert (told["column"], told["num_matched"], told["match"]) == ("TEFF", 3, "target_id = OBJ")
    assert "3 of 6 spectra have a row (target_id = OBJ)" in capsys.readouterr().out
    assert main(["data", "verify", str(out)]) == 0


def test_texts_match_texts_and_spaces_do_not_count(spectra, tmp_path):
    path = catalogue(tmp_path / "names.fits", id=["J03 ", "J01"], z=[0.3, 0.1])
    code, out = join(spectra, path, "--on", "name=id", "--column", "z")
    assert code == 0
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["z"][:], [np.nan, 0.1, np.nan, 0.3, np.nan, np.nan])


def test_positions_match_within_the_radius_and_the_nearest_counts(spectra, tmp_path, capsys):
    arcsec = 1 / 3600
    positions = {"RA": 10 + np.array([0, 1, 1, 2]), "DEC": -5 + arcsec * np.array([0.5, 0.9, 0.3, 5.0])}
    path = catalogue(tmp_path / "sky.csv", **positions, p=[0.1, 0.2, 0.3, 0.4])
    code, out = join(spectra, path, "--sky", "1", "--column", "p")
    assert code == 0
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["p"][:3], [0.1, 0.3, np.nan])
    printed = capsys.readouterr().out
    assert "2 of 6 spectra have a row (within 1 arcsec)" in printed
    assert "1 spectra have several objects within 1 arcsec: the nearest counts" in printed


def test_masked_values_and_named_numbers_are_missing(spectra, tmp_path):
    table = Table({"id": IDS, "feh": [0.1, -9999.0, 0.3, 0.4, 0.5, 0.6], "big": IDS + 10**17}, masked=True)
    table["feh"].mask = [True] + [False] * 5
    table["big"].mask = [False] * 5 + [True]
    table.write(tmp_path / "stars.ecsv")
    code, out = join(
        spectra, tmp_path / "stars.ecsv", "--on", "target_id=id", "--column", "feh", "big", "--missing", "-9999"
    )
    assert code == 0
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["feh"][:], [np.nan, np.nan, 0.3, 0.4, 0.5, 0.6])
        assert file["big"][:].tolist() == [*(IDS[:5] + 10**17), -1]  # float64 would round them


def test_the_same_object_twice_counts_only_if_its_rows_agree(spectra, tmp_path, capsys):
    path = catalogue(tmp_path / "twice.csv", id=[11, 11, 12, 12], kind=["A", "A", "B", "C"], same=[1, 1, 2, 2])
    assert join(spectra, path, "--on", "target_id=id", "--column", "same")[0] == 0
    code, out = join(spectra, path, "--on", "target_id=id", "--column", "kind", "--overwrite")
    assert code == 4
    assert "several rows with different values for id 12; keep one row for each object" in capsys.readouterr().err
    with h5py.File(out) as file:
        assert "kind" not in file  # the file of before


def test_wrong_names_are_all_told_at_once_with_what_there_is(spectra, tmp_path, capsys):
    path = catalogue(tmp_path / "wrong.csv", id=[11], kind=["A"])
    code, out = join(spectra, path, "--on", "target_id=ID", "--column", "sort", "flux=kind")
    assert code == 2
    printed = capsys.readouterr().err
    assert "3 problems" in printed
    assert "has no column 'ID'; there are id, kind" in printed
    assert "has no column 'sort'; there are id, kind" in printed
    assert "has a column 'flux' already; write NEW=kind" in printed
    assert not out.exists()


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: catalogue(path, id=[99], kind=["A"]), "no row belongs to a spectrum of"),
        (lambda path: path, "there is no such file"),
        (lambda path: path.write_bytes(b"\x00\x01\x02" * 50) and path, "is not a table"),
    ],
)
def test_a_catalogue_that_does_not_serve_is_an_error_and_leaves_nothing(spectra, tmp_path, capsys, make, reason):
    path = make(tmp_path / "one.csv")
    code, out = join(spectra, path, "--on", "target_id=id", "--column", "kind")
    assert code == 4
    assert reason in capsys.readouterr().err
    assert [item.name for item in tmp_path.iterdir() if item.name not in ("spectra.h5", "one.csv")] == []
    assert not out.exists()


def test_the_file_itself_may_be_replaced(spectra, tmp_path):
    path = catalogue(tmp_path / "kinds.csv", id=IDS, kind=list("ABCDEF"))
    arguments = ["data", "join", str(spectra), str(path), "--on", "target_id=id", "--column", "kind"]
    assert main([*arguments, "--out", str(spectra)]) == 4
    assert main([*arguments, "--out", str(spectra), "--overwrite"]) == 0
    with h5py.File(spectra) as file:
        assert file["kind"][:].tolist() == [b"A", b"B", b"C", b"D", b"E", b"F"]


def test_nothing_in_a_parquet_table_is_missing(spectra, tmp_path):
    columns = {"id": IDS.tolist(), "z": [0.1, None, 0.3, 0.4, 0.5, 0.6], "kind": ["A", None, "C", "D", "E", "F"]}
    pyarrow.parquet.write_table(pyarrow.table(columns), tmp_path / "part.parquet")
    code, out = join(spectra, tmp_path / "part.parquet", "--on", "target_id=id", "--column", "z", "kind")
    assert code == 0
    with h5py.File(out) as file:
        np.testing.assert_array_equal(file["z"][:3], [0.1, np.nan, 0.3])
        assert file["kind"][:3].tolist() == [b"A", b"", b"C"]
