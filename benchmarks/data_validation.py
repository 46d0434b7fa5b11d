"""How well and how fast `hpctrain data validate` finds faults: simulated weeks with one fault each, and large files.

    python -m benchmarks.data_validation                 faults found, and good weeks that fail
    python -m benchmarks.data_validation --rows 10000000  time and memory for catalogues of ten columns

Expectations come from eight good weeks of 5,000 objects. Time is that of one core, and its ratio to reading all
columns of the same file once, block by block and doing nothing with them; memory is the largest of the process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import numpy as np
from scipy import stats

from hpctrain.expectations.look import look
from hpctrain.expectations.propose import as_yaml, propose
from hpctrain.expectations.section import Expectations, read_expectations
from hpctrain.expectations.sources import open_sources
from hpctrain.expectations.validate import Validated, validate

Columns = dict[str, np.ndarray]
NUM_GOOD, NUM_OBJECTS = 8, 5000
UNITS = {"g": "mag", "r": "mag", "i": "mag", "size": "arcsec"}
ROWS_AT_ONCE = 1 << 17


def week(num: int, seed: int) -> Columns:
    """Return the catalogue of one week without faults."""
    rng = np.random.default_rng([20261126, seed])
    name = rng.choice(np.array([b"GALAXY", b"QSO", b"STAR"]), num, p=(0.6, 0.25, 0.15))
    colour = rng.normal(0.8, 0.3, num) + 0.3 * (name == b"GALAXY")
    r = 22 - rng.exponential(1.2, num)
    missing = rng.random(num) < 0.02
    return {
        "target_id": seed * 10_000_000 + np.arange(num),
        "ra": rng.uniform(0, 360, num),
        "dec": np.degrees(np.arcsin(rng.uniform(-0.3, 0.9, num))),
        "g": np.where(missing, np.nan, r + colour).astype(np.float32),
        "r": r.astype(np.float32),
        "i": (r - 0.5 * colour + rng.normal(0, 0.05, num)).astype(np.float32),
        "size": rng.lognormal(0.3, 0.4, num),
        "redshift": np.abs(rng.normal(0.4, 0.2, num)),
        "spectype": name,
        "mjd": 60000 + 7.0 * seed + 7 * rng.random(num),
    }


def _in_another_unit(columns: Columns) -> None:
    columns["size"] = columns["size"] / 60


def _sentinel(columns: Columns) -> None:
    columns["r"][[17, 400]] = -99


def _gone(columns: Columns) -> None:
    del columns["i"]


def _more_missing(columns: Columns) -> None:
    columns["g"][::20] = np.nan


def _night_twice(columns: Columns) -> None:
    night = columns["mjd"] < columns["mjd"].min() + 1
    for name, values in columns.items():
        columns[name] = np.concatenate([values, values[night]])


def _drift(columns: Columns) -> None:
    columns["i"] = columns["i"] + np.float32(0.2 * np.std(columns["i"]))


def _half_the_sky(columns: Columns) -> None:
    kept = columns["ra"] < 180
    for name, values in columns.items():
        columns[name] = values[kept]


def _class_gone(columns: Columns) -> None:
    columns["spectype"] = np.where(columns["spectype"] == b"STAR", b"GALAXY", columns["spectype"])


def _few(columns: Columns) -> None:
    for name, values in columns.items():
        columns[name] = values[:500]


FAULTS: dict[str, tuple[Callable[[Columns], None], set[tuple[str, str]]]] = {
    "size in arcmin": (_in_another_unit, {("drift", "size")}),
    "-99 in two rows": (_sentinel, {("new-sentinel", "r")}),
    "a column gone": (_gone, {("column", "i")}),
    "missing: 2 % to 7 %": (_more_missing, {("missing", "g")}),
    "a night twice": (_night_twice, {("repeated-ids", "target_id"), ("repeated-rows", "")}),
    "drift of 0.2 sigma": (_drift, {("drift", "i")}),
    "half the sky gone": (_half_the_sky, {("sky-lost", "")}),
    "a class gone": (_class_gone, {("class-gone", "spectype")}),
    "few objects": (_few, {("rows", "")}),
}
"""Faults, and the checks that must fail."""


def write(path: Path, columns: Columns) -> str:
    """Write a catalogue as HDF5."""
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            file[name] = values
            file[name].attrs["unit"] = UNITS.get(name, "")
    return str(path)


def expectations(folder: Path, files: list[str]) -> Expectations:
    """Return the expectations that are proposed from files, as they are read back."""
    path = folder / "expectations.yaml"
    path.write_text(as_yaml(propose(look(open_sources(files)))))
    return read_expectations(path)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, help="rows of large files; without it faults are looked for")
    parser.add_argument("--clean", type=int, default=400, help="good weeks")
    parser.add_argument("--each", type=int, default=20, help="weeks with each fault")
    parser.add_argument("--format", nargs="*", default=["hdf5", "fits", "parquet"], help="formats of large files")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if args.measure:
            print(json.dumps(_measured(*args.measure)))
        elif args.rows:
            _speed(Path(folder), args.rows, args.format)
        else:
            _faults(Path(folder), args.clean, args.each)


def _faults(folder: Path, num_clean: int, each: int) -> None:
    good = [write(folder / f"good{seed}.h5", week(NUM_OBJECTS, seed)) for seed in range(NUM_GOOD)]
    expected = expectations(folder, good)
    reference = write(folder / "reference.h5", week(4 * NUM_OBJECTS, 999))
    new = folder / "new.h5"
    for name, compared in (("good data of the expectations", None), ("a reference of 20,000 objects", reference)):
        wrong, num_checks = [], 0
        for seed in range(100, 100 + num_clean):
            found = validate([write(new, week(NUM_OBJECTS, seed))], expected, "", compared)
            num_checks = len(found.checks)
            wrong += [seed] if found.failed else []
        low, high = stats.binomtest(len(wrong), num_clean).proportion_ci(method="exact")
        first = sum(seed < 120 for seed in wrong)
        print(f"drift against {name}: {num_checks} checks")
        print(
            f"  of the first 20 good weeks {first} fail; of all {num_clean} {len(wrong)} ({100 * low:.2f} to ", end=""
        )
        print(f"{100 * high:.2f} %; promised: at most {100 * expected.false_alarms:g} %)")
        for fault, (change, wanted) in FAULTS.items():
            hits = [_hit(new, change, wanted, seed, expected, compared) for seed in range(1000, 1000 + each)]
            others = sorted({f"{what} {column}".strip() for _, more in hits for what, column in more})
            also = f"; other checks that failed: {', '.join(others)}" if others else ""
            print(f"  {fault:<22} found in {sum(hit for hit, _ in hits)} of {each} weeks{also}")


def _hit(
    path: Path,
    change: Callable[[Columns], None],
    wanted: set[tuple[str, str]],
    seed: int,
    expected: Expectations,
    reference: str | None,
) -> tuple[bool, set[tuple[str, str]]]:
    columns = week(NUM_OBJECTS, seed)
    change(columns)
    found: Validated = validate([write(path, columns)], expected, "", reference)
    failed = {(check.what, check.column) for check in found.failed}
    return wanted <= failed, failed - wanted


def _speed(folder: Path, num: int, formats: list[str]) -> None:
    expected = folder / "expectations.yaml"
    small = write(folder / "small.h5", week(100_000, 1))
    for name in formats:
        path, part = _large(folder, num, name), f"{small}"
        if name != "hdf5":
            part = str(_large(folder, 100_000, name, "small"))
        expected.write_text(as_yaml(propose(look(open_sources([part])))))
        size = path.stat().st_size / 1e9
        print(f"{name}: {num:,} rows, {size:.2f} GB")
        read = _run("read", path, expected)
        for what in ("expect", "validate"):
            found = _run(what, path, expected)
            ratio = found["seconds"] / read["seconds"]
            print(f"  {what:<9} {found['seconds']:.1f} s, {ratio:.1f} times reading ({read['seconds']:.1f} s)", end="")
            print(f"; at most {found['mib']:.0f} MiB, {found['mib'] - read['mib']:+.0f} MiB to reading")
        path.unlink()


def _run(what: str, path: Path, expected: Path) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.data_validation", "--measure", what, str(path), str(expected)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _measured(what: str, path: str, expected: str) -> dict[str, float]:
    """Read or check a file in this process, after its pages were read once."""
    with open(path, "rb") as stream:
        while stream.read(1 << 24):
            pass
    begin = time.process_time()
    if what == "read":
        for block in _read(Path(path)):
            del block
    elif what == "expect":
        propose(look(open_sources([path])))
    else:
        validate([path], read_expectations(expected), expected)
    seconds = time.process_time() - begin
    # The largest size that getrusage knows includes that of the parent before it started this program.
    status = Path("/proc/self/status").read_text()
    return {"seconds": seconds, "mib": int(status.partition("VmHWM:")[2].split()[0]) / 1024}


def _read(path: Path) -> Iterator[object]:
    if path.suffix == ".h5":
        with h5py.File(path, "r") as file:
            for begin in range(0, len(file["ra"]), ROWS_AT_ONCE):
                yield [file[name][begin : begin + ROWS_AT_ONCE] for name in file]
    elif path.suffix == ".parquet":
        from pyarrow import parquet

        table = parquet.ParquetFile(path)
        for group in range(table.num_row_groups):
            yield [column.to_numpy() for column in table.read_row_group(group).columns]
    else:
        from astropy.io import fits

        with fits.open(path, memmap=True) as hdus:
            data = hdus[1].data
            for begin in range(0, len(data), ROWS_AT_ONCE):
                part = data[begin : begin + ROWS_AT_ONCE]
                yield [np.array(part[name]) for name in data.names]


def _large(folder: Path, num: int, name: str, stem: str = "large") -> Path:
    """Write a catalogue, block by block."""
    if name == "hdf5":
        return _large_hdf5(folder / f"{stem}.h5", num)
    path = folder / f"{stem}.{name}"
    if name == "fits":
        from astropy.table import Table

        parts = [week(min(1_000_000, num - begin), begin // 1_000_000) for begin in range(0, num, 1_000_000)]
        Table({key: np.concatenate([part[key] for part in parts]) for key in parts[0]}).write(path)
        return path
    import pyarrow as pa
    from pyarrow import parquet

    writer = None
    for begin in range(0, num, 1_000_000):
        part = week(min(1_000_000, num - begin), begin // 1_000_000)
        table = pa.table(
            {key: values.astype(str) if values.dtype.kind == "S" else values for key, values in part.items()}
        )
        writer = writer or parquet.ParquetWriter(path, table.schema)
        writer.write_table(table, row_group_size=ROWS_AT_ONCE)
    if writer is not None:
        writer.close()
    return path


def _large_hdf5(path: Path, num: int) -> Path:
    with h5py.File(path, "w") as file:
        for begin in range(0, num, 1_000_000):
            part = week(min(1_000_000, num - begin), begin // 1_000_000)
            for key, values in part.items():
                if begin == 0:
                    file.create_dataset(key, (num,), values.dtype)
                file[key][begin : begin + len(values)] = values
    return path


if __name__ == "__main__":
    main()
