"""Expectations of files of each kind and format."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from astropy.table import Table
from kinds import images, light_curves, spectra

from benchmarks.data_validation import expectations, week
from hpctrain.errors import DataError
from hpctrain.expectations.sources import open_sources
from hpctrain.expectations.validate import validate


def _failed(path: Path, good: Path, tmp_path: Path) -> set[tuple[str, str]]:
    found = validate([str(path)], expectations(tmp_path, [str(good)]), "good.yaml")
    return {(check.what, check.column) for check in found.failed}


def _changed(good: Path, new: Path, change: Callable[[h5py.File], None]) -> Path:
    new.write_bytes(good.read_bytes())
    with h5py.File(new, "r+") as file:
        change(file)
    return new


def _replace(name: str, of: Callable[[np.ndarray], np.ndarray]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        values = of(file[name][...])
        del file[name]
        file[name] = values

    return change


@pytest.fixture(scope="module")
def some_spectra(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Spectra of 600 pixels."""
    return spectra.tiny_file(tmp_path_factory.mktemp("spectra") / "good.h5", num=150, num_pixels=600)


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (_replace("ivar", lambda ivar: np.where(ivar > 0, 0.5, 0)), ("noise", "ivar")),
        (_replace("wavelength", lambda grid: grid + 3), ("grid", "wavelength")),
        (_replace("flux", lambda flux: flux * 1000), ("range", "flux:median")),
        (_replace("flux", lambda flux: flux.astype(np.float64)), ("dtype", "flux")),
        (
            _replace("ivar", lambda ivar: np.where(np.arange(len(ivar))[:, None] % 2, ivar, 0)),
            ("range", "pixels:masked"),
        ),
        (_replace("redshift", lambda redshift: redshift.astype(str).astype("S")), ("type", "redshift")),
    ],
    ids=["sigma instead of ivar", "grid", "units", "dtype", "masked", "text"],
)
def test_faults_of_spectra_are_found(change, wanted, some_spectra, tmp_path):
    assert wanted in _failed(_changed(some_spectra, tmp_path / "new.h5", change), some_spectra, tmp_path)


def test_the_same_spectra_are_as_expected(some_spectra, tmp_path):
    assert _failed(some_spectra, some_spectra, tmp_path) == set()


def test_an_image_without_a_signal_is_found(tmp_path):
    good = images.tiny_file(tmp_path / "good.h5", num=80)
    new = _changed(good, tmp_path / "new.h5", lambda file: file["image"].__setitem__(slice(0, 30), 0.0))
    assert _failed(good, good, tmp_path) == set()
    failed = _failed(new, good, tmp_path)
    assert any(what in ("range", "drift", "repeated-rows") and "image" in column for what, column in failed), failed


def test_points_that_are_out_of_order_are_found(tmp_path):
    good = light_curves.tiny_file(tmp_path / "good.h5", num=80)
    new = _changed(good, tmp_path / "new.h5", _replace("time", lambda time: time[::-1].copy()))
    assert _failed(good, good, tmp_path) == set()
    assert any(column == "time:backward" for _, column in _failed(new, good, tmp_path))


@pytest.mark.parametrize("end", ["fits", "fits.gz", "csv", "ecsv", "parquet"])
def test_each_format_is_read(end, tmp_path):
    good, new = tmp_path / f"good.{end}", tmp_path / f"new.{end}"
    for path, seed in ((good, 1), (new, 2)):
        columns = {**week(800, seed), "spectype": week(800, seed)["spectype"].astype(str)}
        columns["r"] = np.where(np.arange(800) == 7, np.float32(-99 if seed == 2 else 20), columns["r"])
        table = Table(columns)
        table["size"].unit = "arcsec" if seed == 1 else "arcmin"
        if end == "parquet":
            _as_parquet(table, path)
        else:
            table.write(path, **({"format": "ascii.csv"} if end == "csv" else {}))
    failed = _failed(new, good, tmp_path)
    has_units = end not in ("csv", "parquet")
    assert failed == {("new-sentinel", "r")} | ({("unit", "size")} if has_units else set())


def _as_parquet(table: Table, path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.table({name: np.asarray(table[name]) for name in table.colnames}), path, row_group_size=300)


def test_files_that_cannot_be_read_are_all_named(tmp_path):
    (tmp_path / "empty.h5").touch()
    (tmp_path / "noise.bin").write_bytes(bytes(range(256)))
    (tmp_path / "cut.csv").write_text("a,b\n1,2\n3\n")
    with pytest.raises(DataError) as raised:
        open_sources([str(tmp_path / name) for name in ("empty.h5", "noise.bin")])
    assert "empty.h5: is empty" in str(raised.value)
    assert "noise.bin: is neither" in str(raised.value)
    with pytest.raises(DataError, match=r"cut.csv: line 3: has 1 values"):
        validate([str(tmp_path / "cut.csv")], expectations(tmp_path, [_small_csv(tmp_path)]), "good.yaml")


def _small_csv(folder: Path) -> str:
    (folder / "good.csv").write_text("a,b\n1,2\n3,4\n")
    return str(folder / "good.csv")


def test_a_column_of_classes_that_holds_something_else_is_one_finding(tmp_path):
    for name, classes in (("good", ["GALAXY", "STAR"]), ("new", [f"SDSS J{place:05d}" for place in range(1000)])):
        rows = [f"{classes[place % len(classes)]},{place % 3}" for place in range(1000)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["class,flag", *rows]))
    found = validate([str(tmp_path / "new.csv")], expectations(tmp_path, [str(tmp_path / "good.csv")]), "good.yaml")
    check = next(check for check in found.failed if check.what == "other-classes")
    assert check.places.number == 1000
    assert check.places.first[0] == (0, 0, "SDSS J00000")
    assert not any(check.column == "flag" for check in found.failed)
