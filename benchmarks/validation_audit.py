"""Plant leaks of every kind and count how many ``hpctrain audit`` finds, and what it says about clean data.

    python -m benchmarks.validation_audit [--sets 20] [--only catalogue spectra light_curves images speed]
        [--rows 10000000] [--folder FOLDER]

Each set is a new simulation, audited once clean and once with each leak. `speed` writes a catalogue of 5 magnitudes
and errors, positions and labels, and measures CPU time and memory against reading its columns once.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import tempfile
import time
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from benchmarks.validation_audit_plants import BANDS, CURVE_COLUMNS, ERRORS, NUM_COPIES, Columns, plants_of
from hpctrain.profile.families import kind_of, profile_of
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, note_test_look
from hpctrain.validation.audit.audit import audit
from hpctrain.validation.audit.findings import NOTE

SPLIT = {"validation": 0.2, "test": 0.1}
SECTIONS: dict[str, dict[str, Any]] = {
    "catalogue": {
        "data": {"features": [*BANDS], "errors": ERRORS},
        "model": {
            "family": "trees",
            "labels": [{"column": "class", "kind": "class"}, {"column": "redshift", "kind": "value"}],
        },
        "simulate": {"num_objects": 1500},
    },
    "spectra": {
        "data": {},
        "model": {"family": "spectral_cnn", "labels": [{"column": "redshift", "kind": "value"}]},
        "simulate": {"num_spectra": 300, "num_pixels": 1000},
    },
    "light_curves": {
        "data": {"bands": ["g", "r"]},
        "model": {"family": "light_curve_transformer", "labels": [{"column": "class", "kind": "class"}]},
        "simulate": {"num_curves": 400},
    },
    "images": {
        "data": {},
        "model": {"family": "image_cnn", "labels": [{"column": "is_lens", "kind": "class"}]},
        "simulate": {"num_images": 200, "num_pixels": 32},
    },
}
"""Of each kind of data: keys of the profile, and the simulation."""


def simulate(kind: str, folder: Path, seed: int) -> Columns:
    """Return the columns of a simulated file of a kind of data, with random identifiers and positions."""
    path = folder / "simulated.h5"
    path.unlink(missing_ok=True)
    profile = profile_for(kind, path)
    values = {**SECTIONS[kind]["simulate"], "seed": seed}
    section = type(profile.data.simulate).model_validate(values)
    kind_of(profile).make(path, section)
    with h5py.File(path) as file:
        columns = {name: file[name][...] for name in file if isinstance(file[name], h5py.Dataset)}
    rng = np.random.default_rng(seed)
    num = len(columns["target_id"])
    if kind == "light_curves":
        offsets = columns.pop("offsets")
        whole = np.stack([columns.pop(name).astype(np.float64) for name in CURVE_COLUMNS])
        columns["points"] = np.empty(num, dtype=object)
        columns["points"][:] = [whole[:, start:end] for start, end in pairwise(offsets)]
    _, number = np.unique(columns["target_id"], return_inverse=True)  # exposures of an object keep one identifier
    columns["target_id"] = rng.permutation(2**40 + 977 * np.arange(num))[number]
    columns["ra"], columns["dec"] = (rng.uniform(*limits, num)[number] for limits in ((140, 160), (-5, 15)))
    return columns


def write(kind: str, columns: Mapping[str, np.ndarray], path: Path) -> None:
    """Write columns as a file of a kind of data."""
    with h5py.File(path, "w") as file:
        for name, values in columns.items():
            if name == "points":
                file["offsets"] = np.cumsum([0, *(points.shape[1] for points in values)])
                whole = np.concatenate(list(values), axis=1)
                for number, part in enumerate(CURVE_COLUMNS):
                    file[part] = whole[number].astype({"time": "f8", "band": "i2"}.get(part, "f4"))
            else:
                file[name] = values


def profile_for(kind: str, *paths: Path, **changes: Any) -> Profile:
    """Return a profile for files of a kind of data."""
    section = SECTIONS[kind]
    values = {
        "name": "audited",
        "launch": {"runs_dir": str(paths[0].parent / "runs")},
        "data": {"files": [str(path) for path in paths], "split": SPLIT, "simulate": {}, **section["data"]},
        "model": section["model"],
    }
    return profile_of(
        {
            key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value
            for key, value in ({**{name: {} for name in changes}, **values}).items()
        }
    )


def codes(profile: Profile) -> set[str]:
    """Return the codes of the leaks and suspicions about a profile."""
    return {each.code for each in audit(profile).findings if each.severity != NOTE}


def another_survey(kind: str, columns: Columns, folder: Path, rng: np.random.Generator) -> set[str]:
    """Audit two files that share objects, with other identifiers and numbers and slightly other positions."""
    half = len(columns["target_id"]) // 2
    first = {name: values[:half] if len(values) == 2 * half else values for name, values in columns.items()}
    second = {name: values[half:] if len(values) == 2 * half else values for name, values in columns.items()}
    second = {name: values.copy() for name, values in second.items()}
    for name in ("ra", "dec"):
        second[name][:NUM_COPIES] = first[name][:NUM_COPIES] + rng.normal(0, 0.1 / 3600, NUM_COPIES)
    for name, part in (("first.h5", first), ("second.h5", second)):
        write(kind, part, folder / name)
    return codes(profile_for(kind, folder / "first.h5", folder / "second.h5"))


def other_runs(kind: str, columns: Columns, folder: Path) -> dict[str, bool]:
    """Plant what earlier runs have seen, and return what was found."""
    path = folder / "clean.h5"
    write(kind, columns, path)
    found = {}
    earlier = profile_for(kind, path, data={"split": {**SPLIT, "salt": "another"}})
    run = _run_of(earlier, folder / "runs" / "earlier" / "20260101-000000-0000")
    found["weights that have seen"] = "trained-before" in codes(profile_for(kind, path, train={"init_from": str(run)}))
    same = _run_of(profile_for(kind, path), folder / "runs" / "same" / "20260101-000000-0001")
    found["(clean: weights of the same split)"] = bool(codes(profile_for(kind, path, train={"init_from": str(same)})))
    for number in range(3):
        trial = _run_of(profile_for(kind, path), folder / "runs" / "trial" / f"20260101-000001-000{number}")
        note_test_look(RunDir(trial), "hpctrain export", 10)
    found["test side looked at"] = "test-looks" in codes(profile_for(kind, path))
    shutil.rmtree(folder / "runs")
    return found


def _run_of(profile: Profile, path: Path) -> Path:
    from hpctrain.profile.load import dump_profile

    path.mkdir(parents=True)
    (path / "profile.yaml").write_text(dump_profile(profile))
    return path


def table(kind: str, sets: int, folder: Path) -> dict[str, int]:
    """Return how many sets had each leak found, after the number of clean sets with a finding."""
    counts: dict[str, int] = {"clean": 0}
    for seed in range(1, sets + 1):
        rng = np.random.default_rng(seed)
        clean = simulate(kind, folder, seed)
        write(kind, clean, folder / "clean.h5")
        if wrong := codes(profile_for(kind, folder / "clean.h5")):
            counts["clean"] += 1
            print(f"  clean set {seed}: {', '.join(sorted(wrong))}", flush=True)
        for name, (plant, wanted) in plants_of(kind).items():
            columns = {key: values.copy() for key, values in clean.items()}
            plant(columns, rng)
            write(kind, columns, folder / "planted.h5")
            counts[name] = counts.get(name, 0) + bool(codes(profile_for(kind, folder / "planted.h5")) & wanted)
        if kind == "catalogue":
            between = another_survey(kind, clean, folder, rng)
            counts["two surveys"] = counts.get("two surveys", 0) + ("same-position" in between)
            for name, is_found in other_runs(kind, clean, folder).items():
                counts[name] = counts.get(name, 0) + is_found
    return counts


def write_large(path: Path, num: int, rng: np.random.Generator) -> None:
    """Write a catalogue of so many rows: 5 magnitudes and errors, positions over a third of the sky, two labels."""
    with h5py.File(path, "w") as file:
        file["target_id"] = rng.permutation(num) * 977 + 2**40
        file["ra"] = rng.uniform(0, 360, num)
        file["dec"] = np.degrees(np.arcsin(rng.uniform(-0.2, 0.5, num)))
        colour, bright = rng.normal(0, 0.5, num), rng.uniform(16, 23, num)
        for number, band in enumerate(BANDS):
            error = 0.02 + 0.1 * rng.random(num)
            file[band] = (bright + number * colour / 4 + error * rng.normal(size=num)).astype(np.float32)
            file[f"{band}_err"] = error.astype(np.float32)
        file["class"] = np.where(colour + 0.5 * rng.normal(size=num) > 0, 1, 0)
        file["redshift"] = (0.3 + 0.1 * colour + 0.05 * rng.normal(size=num)).astype(np.float32)


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def speed(num: int, folder: Path) -> None:
    """Print time and memory of an audit of a large catalogue, against reading its columns once."""
    path = folder / "large.h5"
    write_large(path, num, np.random.default_rng(1))
    size = path.stat().st_size / 2**30
    start = time.process_time()
    with h5py.File(path) as file:
        total = sum(float(file[name][...].sum()) for name in file)
    reading = time.process_time() - start
    print(f"{num:,} rows, {size:.2f} GiB (checksum {total:.6g}): CPU time of reading once {reading:.2f} s")
    print(f"  memory before {_peak_gib():.2f} GiB")
    for name, near in (("without near-duplicates", False), ("all", True)):
        start = time.process_time()
        found = audit(profile_for("catalogue", path, validate={"audit": {"near_duplicates": near}}))
        seconds = time.process_time() - start
        said = ", ".join(each.code for each in found.findings) or "nothing"
        print(f"  {name}: {seconds:.1f} s, {seconds / reading:.0f} times reading; peak {_peak_gib():.2f} GiB; {said}")
    path.unlink()


def main() -> None:
    """Print a table for each kind of data, then the speed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=20, help="simulations of each kind of data (20)")
    parser.add_argument("--only", nargs="+", default=[*SECTIONS, "speed"], help="kinds of data, or speed")
    parser.add_argument("--rows", type=int, default=10_000_000, help="rows for speed (10,000,000)")
    parser.add_argument("--folder", type=Path, help="where files are written (default: a temporary folder)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        for kind in args.only:
            if kind == "speed":
                speed(args.rows, Path(name))
                continue
            print(f"{kind}: leaks found in {args.sets} sets", flush=True)
            for leak, count in table(kind, args.sets, Path(name)).items():
                print(f"  {leak:40} {count}", flush=True)


if __name__ == "__main__":
    main()
