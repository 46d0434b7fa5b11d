"""Random damage to a run directory, outside its checkpoints; the same for the same seed."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpctrain.rundir import RunDir

WRONG_VALUES = (
    None, True, -1, 0, 1e308, -1e308, 10**30, 2**63, 1e12, "", "x", "\x1b[31m", "\ud800", "²", [], {}, [[1]], [None],
    {"a": None},
)  # fmt: skip
"""What may stand in a record where something else should."""


def files_of(run: RunDir) -> list[Path]:
    """Return all files of a run but those of its checkpoints, of its model and the profile, which a run cannot lose."""
    kept = (run.checkpoints, run.model, run.logs / "server-0.log")
    every = sorted(path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in every if not any(path.is_relative_to(folder) for folder in kept) and path != run.profile]


def add_launcher_files(run: RunDir) -> None:
    """Write what the launcher and the batch script would have written of a run made without them."""
    job = {
        "run_id": run.run_id, "name": run.name, "cluster": "local", "submitted_at": 1.8e9, "command": ["a", "b"],
        "trainer": ["a"], "environment": {"A": "b"}, "world_size": 1, "requeue": True, "max_attempts": 5,
        "max_attempts_without_progress": 2, "submissions": [{"job_id": "local-4", "submitted_at": 1.8e9}],
    }  # fmt: skip
    run.job.write_text(json.dumps(job, indent=2))
    run.script.write_text("#!/bin/bash\necho run\n")
    git = {"commit": "7b1e6f", "branch": "main", "dirty": True, "diff": "+a\n", "untracked": ["b"]}
    provenance = {"command": ["x"], "user": "u", "packages": {"torch": "2"}, "code": {"path": "/sw", "git": git}}
    provenance["data"] = [{"path": "/data.h5", "bytes": 5, "modified": 1.8e9, "hashes": "none", "columns": {}}]
    run.provenance.write_text(json.dumps(provenance))
    (run.attempts / "ended.tsv").write_text("1800000000\tlocal-4\t0\t75\tnone\tstep-00000004\trequeued\n")
    run.bad_nodes.write_text("1800000000\tn1\t4\tpreflight\n")
    (run.attempts / "supervisor.json").write_text('{"job_id": "local-4", "pid": 1, "host": "h", "restart": 0}')
    (run.attempts / "supervisor.lock").touch()
    (run.logs / "job-local-4.0-rank-0000.log").write_text("a line\nanother\n")
    (run.logs / "job-local-4.0-batch.log").write_text("a line\n")


def damage(run: RunDir, seed: int, secret: Path) -> str:
    """Damage one or a few files of a run; return what was done.

    Parameters
    ----------
    run : RunDir
    seed : int
    secret : Path
        A file outside the run, for planted links.
    """
    rng = random.Random(seed)
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        present = [path for path in files_of(run) if path.exists()]
        path = rng.choice(present)
        how = rng.choice(WAYS)
        how(path, rng, secret)
        done.append(f"{how.__name__.strip('_')} {path.relative_to(run.path)}")
    return f"seed {seed}: {', '.join(done)}"


def _flip_bytes(path: Path, rng: random.Random, _secret: Path) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 8)):
        if content:
            content[rng.randrange(len(content))] = rng.randrange(256)
    path.write_bytes(content)


def _truncate(path: Path, rng: random.Random, _secret: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: rng.randint(0, len(content))])


def _fill_with_garbage(path: Path, rng: random.Random, _secret: Path) -> None:
    path.write_bytes(rng.randbytes(rng.randint(0, 2000)))


def _insert_bytes_that_are_no_text(path: Path, rng: random.Random, _secret: Path) -> None:
    content = path.read_bytes()
    place = rng.randint(0, len(content))
    path.write_bytes(content[:place] + rng.choice((b"\xff\n", b"\xff\xfe\x00", b"\x00" * 300)) + content[place:])


def _replace_by_other_json(path: Path, rng: random.Random, _secret: Path) -> None:
    path.write_text(rng.choice(("3", "[1]", '"x"', "null", "{}", "[" * 100_000, '{"a":' * 50_000, "1" * 5000, "")))


def _append_other_lines(path: Path, rng: random.Random, _secret: Path) -> None:
    record = {"kind": rng.choice(("train", "eval", "event", "monitor")), "step": None, "time": 1.8e9, "attempt": 1}
    lines = ("3", "[]", json.dumps(record), json.dumps({**record, "step": -3}), "[" * 100_000, "x" * 3_000_000)
    with open(path, "a") as stream:
        stream.write("\n" + rng.choice(lines) + "\n")


def _change_types(path: Path, rng: random.Random, _secret: Path) -> None:
    """Put values of another type into records, at any depth."""
    if path.suffix not in (".json", ".jsonl"):
        return _flip_bytes(path, rng, _secret)
    lines = path.read_text().splitlines() if path.suffix == ".jsonl" else [path.read_text()]
    for _ in range(rng.randint(1, 4)):
        number = rng.randrange(len(lines))
        try:
            record = json.loads(lines[number])
        except ValueError:
            continue
        place: Any = record
        while isinstance(place, dict) and place:
            name = rng.choice(sorted(place))
            if isinstance(place[name], dict) and place[name] and rng.random() < 0.7:
                place = place[name]
                continue
            place[name] = rng.choice(WRONG_VALUES)
            break
        lines[number] = json.dumps(record)
    path.write_text("\n".join(lines) + "\n")
    return None


def _put_a_folder_there(path: Path, _rng: random.Random, _secret: Path) -> None:
    path.unlink()
    path.mkdir()


def _put_a_link_there(path: Path, rng: random.Random, secret: Path) -> None:
    path.unlink()
    path.symlink_to(rng.choice((secret, secret.parent / "nothing", path, secret.parent)))


def _put_a_pipe_there(path: Path, _rng: random.Random, _secret: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _copy_under_an_odd_name(path: Path, rng: random.Random, _secret: Path) -> None:
    names = (
        f"{path.stem} (copy){path.suffix}",
        f"²{path.name}",
        f"{10**25}{path.suffix}",
        f"{path.name}~",
        "0\udcff.json",
    )
    shutil.copy(path, path.with_name(rng.choice(names)))


def _remove(path: Path, _rng: random.Random, _secret: Path) -> None:
    path.unlink()


def _lock(path: Path, _rng: random.Random, _secret: Path) -> None:
    """For root this is no damage."""
    path.chmod(0)


def _put_a_file_in_place_of_the_folder(path: Path, rng: random.Random, _secret: Path) -> None:
    if path.parent.name in ("heartbeat", "monitor", "results", "attempts"):
        shutil.rmtree(path.parent)
        path.parent.write_bytes(rng.randbytes(10))


WAYS: tuple[Callable[[Path, random.Random, Path], None], ...] = (
    _flip_bytes, _flip_bytes, _truncate, _fill_with_garbage, _insert_bytes_that_are_no_text, _replace_by_other_json,
    _append_other_lines, _change_types, _change_types, _change_types, _put_a_folder_there, _put_a_link_there,
    _put_a_pipe_there, _copy_under_an_odd_name, _remove, _lock, _put_a_file_in_place_of_the_folder,
)  # fmt: skip
