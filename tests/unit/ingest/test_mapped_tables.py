"""``hpctrain ingest table`` and ``hdf5``: text, csv, ECSV, VOTable, npz, SNID templates, and any HDF5 file."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.table import MaskedColumn, Table
from survey_files import make_star

from hpctrain.cli import main

FLUX, ERROR = make_star()
GRID = 4000.0 + 2.0 * np.arange(300)


def ingest(*arguments: object) -> int:
    """Call the command and return its exit code."""
    return main(["ingest", *(str(argument) for argument in arguments)])


def read(path: Path) -> dict[str, np.ndarray]:
    """Return all columns of a file."""
    with h5py.File(path) as file:
        return {name: values[...] for name, values in file.items() if isinstance(values, h5py.Dataset)}


def pixels() -> Table:
    """Return a table with a row per pixel."""
    return Table({"wave": GRID, "flux": FLUX, "err": ERROR})


@pytest.mark.parametrize(
    "name", ["a.csv", "a.ecsv", "a.vot", "a.txt", "a.dat", "plain.txt", "tabs.txt", "plain.csv", "named.dat"]
)
def test_tables_of_pixels_come_in(tmp_path: Path, name: str) -> None:
    path, table = tmp_path / name, pixels()
    if name == "plain.csv":
        np.savetxt(path, np.stack([GRID, FLUX, ERROR], axis=1), delimiter=",")
    elif name == "tabs.txt":
        lines = [f"{wave!r} \t{flux!r}\t\t{error!r}\n" for wave, flux, error in zip(GRID, FLUX, ERROR, strict=True)]
        path.write_text("".join(lines).replace("np.float64(", "").replace(")", ""))
    elif name == "plain.txt":
        np.savetxt(path, np.stack([GRID, FLUX, ERROR], axis=1), header="a star\nobserved last night")
    elif name == "named.dat":
        np.savetxt(path, np.stack([ERROR, FLUX, GRID], axis=1), header="err flux wave")
    else:
        formats = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".vot": "votable", ".txt": "ascii.basic"}
        table.write(path, format=formats.get(path.suffix, "ascii.tab"))
    assert ingest("table", path, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], GRID)
    assert np.allclose(found["flux"][0], FLUX, rtol=1e-6)
    assert np.allclose(found["ivar"][0], ERROR**-2, rtol=1e-5)


def test_two_columns_of_text_have_no_errors_until_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    np.savetxt(tmp_path / "two.txt", np.stack([GRID, FLUX], axis=1))
    assert ingest("table", tmp_path / "two.txt", "--out", tmp_path / "a.h5") == 4
    error = capsys.readouterr().err
    for option in ("--column error=NAME", "--assume-snr", "--measure-noise"):
        assert option in error
    assert ingest("table", tmp_path / "two.txt", "--assume-snr", 25, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.median(found["flux"]) * np.sqrt(found["ivar"][0, 0]) == pytest.approx(25, rel=0.01)


def test_units_of_an_ecsv_are_read(tmp_path: Path) -> None:
    table = pixels()
    table["wave"].unit, table["flux"].unit, table["err"].unit = "Angstrom", "uJy", "uJy"
    table["wave"] = table["wave"].to("um")
    table.write(tmp_path / "a.ecsv")
    assert ingest("table", tmp_path / "a.ecsv", "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["flux"][0], FLUX * 1e-29 * 2.99792458e18 / GRID**2 * 1e17, rtol=1e-5)
    assert np.allclose(found["flux"][0] * np.sqrt(found["ivar"][0]), FLUX / ERROR, rtol=1e-5)


def test_objects_below_each_other_are_told_apart_by_their_id(tmp_path: Path) -> None:
    table = Table(
        {
            "star": ["b"] * 300 + ["a"] * 300,
            "wave": np.tile(GRID, 2),
            "flux": np.concatenate([FLUX, 2 * FLUX]),
            "err": np.tile(ERROR, 2),
            "teff": [5000.0] * 300 + [6000.0] * 300,
        }
    )
    table.write(tmp_path / "long.csv")
    options = ("--column", "target_id=star", "teff", "--out", tmp_path / "a.h5")
    assert ingest("table", tmp_path / "long.csv", *options) == 0
    found = read(tmp_path / "a.h5")
    assert found["name"].tolist() == [b"b", b"a"]
    assert found["teff"].tolist() == [5000, 6000]
    assert np.allclose(found["flux"][1], 2 * FLUX, rtol=1e-6)


def test_labels_that_differ_within_a_spectrum_are_an_error(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    table = pixels()
    table["z"] = np.arange(300.0)
    table.write(tmp_path / "a.csv")
    assert ingest("table", tmp_path / "a.csv", "--out", tmp_path / "a.h5") == 4
    assert "z has several values among the pixels" in capsys.readouterr().err


def test_a_table_whose_columns_are_pixels_has_a_spectrum_per_row(tmp_path: Path) -> None:
    columns = {f"{wave:.1f}": [flux, 2 * flux] for wave, flux in zip(GRID, FLUX, strict=True)}
    Table({"id": [7, 8], "redshift": MaskedColumn([0.1, 0.0], mask=[False, True]), **columns}).write(tmp_path / "w.csv")
    options = ("--column", "target_id=id", "--assume-snr", 10, "--out", tmp_path / "a.h5")
    assert ingest("table", tmp_path / "w.csv", *options) == 0
    found = read(tmp_path / "a.h5")
    assert np.allclose(found["wavelength"], GRID)
    assert np.allclose(found["flux"], np.stack([FLUX, 2 * FLUX]), rtol=1e-6)
    assert found["target_id"].tolist() == [7, 8]
    assert np.isnan(found["redshift"][1])


def test_npz_files_come_in_without_pickles(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "a.npz", flux=np.stack([FLUX, FLUX]), sigma=np.stack([ERROR, ERROR]), wave=GRID, z=[0.1, 0.2],
        notes=np.array([{"a": 1}], dtype=object),
    )  # fmt: skip
    assert ingest("table", tmp_path / "a.npz", "--out", tmp_path / "a.h5") == 0
    assert read(tmp_path / "a.h5")["redshift"].tolist() == [0.1, 0.2]


def write_snid(path: Path, name: str, num_pixels: int = 64) -> None:
    """Write a SNID template of two epochs: header, knots, ages, then a row per pixel."""
    rows = [
        f"    2 {num_pixels}   2500.00  10000.00      1     {name}      -9.99  Ia-norm     1  1",
        "      1 1 -14.2 1 -13.9",
    ]
    rows += ["      1  2.3334   0.0840  2.4728  -0.4863", "      0  -3.5  10.2"]
    for pixel in range(num_pixels):
        value = np.sin(pixel / 5) if 4 <= pixel < num_pixels - 4 else 0.0
        rows.append(f" {2500 * 4 ** (pixel / num_pixels):.2f}  {value:.3f}  {-value:.3f}")
    path.write_text("\n".join(rows) + "\n")


def test_snid_templates_keep_type_phase_and_name(tmp_path: Path) -> None:
    write_snid(tmp_path / "sn05cf.lnw", "sn05cf")
    write_snid(tmp_path / "sn2005cf.lnw", "sn2005cf")
    write_snid(tmp_path / "cut.lnw", "sn91bg")
    (tmp_path / "cut.lnw").write_text((tmp_path / "cut.lnw").read_text()[:800])
    options = ("--assume-snr", 20, "--out", tmp_path / "a.h5", "--summary", tmp_path / "a.json")
    assert ingest("table", tmp_path, *options) == 0
    found = read(tmp_path / "a.h5")
    assert found["phase"].tolist() == [-3.5, 10.2] * 2
    assert found["type"].tolist() == [b"Ia-norm"] * 4
    assert len(set(found["target_id"])) == 1  # one supernova under two names
    assert found["redshift"].tolist() == [0, 0, 0, 0]
    assert (found["ivar"] > 0).sum(axis=1).tolist() == [56, 56, 56, 56]
    assert "is cut off" in (tmp_path / "a.json").read_text()


def test_hdf5_datasets_are_found_by_the_end_of_their_path(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["spectra/flux"], file["spectra/err"] = np.stack([FLUX] * 3), np.stack([ERROR] * 3)
        file["spectra/wave"] = GRID / 1e4
        file["spectra/wave"].attrs["unit"] = "micron"
        file["labels/type"] = np.array(["Ia", "II", "Ib"], dtype=object)
        file["labels/z"] = [0.1, 0.2, 0.3]
        file["labels/hour"] = [1.0, 2.0, 3.0]
        file["labels/hour"].attrs["unit"] = "hourangle"
        file.attrs["survey"] = "mine"
    columns = ("type", "ra=hour", "survey=header:survey", "target_id=type")
    assert ingest("hdf5", tmp_path / "in.h5", "--column", *columns, "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert found["type"].tolist() == [b"Ia", b"II", b"Ib"]
    assert found["redshift"].tolist() == [0.1, 0.2, 0.3]
    assert found["ra"].tolist() == pytest.approx([15, 30, 45])
    assert found["survey"].tolist() == [b"mine"] * 3


def test_a_grid_per_row_and_padding_come_in(tmp_path: Path) -> None:
    wave = np.stack([GRID, GRID, GRID + 2])
    wave[1, -10:] = -1
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["flux"], file["ivar"], file["wave"] = np.stack([FLUX] * 3), np.stack([ERROR**-2] * 3), wave
    assert ingest("hdf5", tmp_path / "in.h5", "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert (found["ivar"] > 0).sum(axis=1).tolist() == [300, 290, 299]
    assert np.allclose(found["flux"][2, 1:], FLUX[:-1], rtol=1e-6)


def test_more_rows_than_are_read_at_once_stay_in_order(tmp_path: Path) -> None:
    factors = np.arange(1.0, 601.0)
    with h5py.File(tmp_path / "in.h5", "w") as file:
        file["flux"], file["ivar"], file["wave"] = factors[:, None] * FLUX[:40], np.ones((600, 40)), GRID[:40]
        file["number"] = factors
    assert ingest("hdf5", tmp_path / "in.h5", "--column", "number", "--out", tmp_path / "a.h5") == 0
    found = read(tmp_path / "a.h5")
    assert np.array_equal(found["number"], factors)
    assert np.allclose(found["flux"], factors[:, None] * FLUX[:40], rtol=1e-6)
    assert found["source_row"].tolist() == list(range(600))


def test_labels_that_some_files_lack_are_not_known_there(tmp_path: Path) -> None:
    for name, extra in (("a", {"teff": 5000, "kind": "G"}), ("b", {}), ("c", {"teff": 6000.5, "kind": "K5III"})):
        np.savez(tmp_path / f"{name}.npz", flux=FLUX, err=ERROR, wave=GRID, **extra)
    options = ("--column", "teff", "kind", "--out", tmp_path / "a.h5", "--summary", tmp_path / "a.json")
    assert ingest("table", tmp_path, *options) == 0
    found = read(tmp_path / "a.h5")
    assert found["teff"].tolist() == [5000, 6000.5]
    assert found["kind"].tolist() == [b"G", b"K5III"]
    assert "no such name" in (tmp_path / "a.json").read_text()
