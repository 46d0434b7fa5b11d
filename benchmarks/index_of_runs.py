"""How fast and how large the index of runs is: 10,000 run directories on the disk, in SQLite and in PostgreSQL.

    python -m benchmarks.index_of_runs [--runs 10000] [--rounds 5] [--url postgresql://...] [--folder DIR]

One small run is trained and validated for real. The others are copies of its files with names, seeds, settings, times
and metrics of their own; one run in a hundred has failed. A private PostgreSQL is started if its programs are there and
no URL is given. Each command is a process of its own: wall time, CPU time and peak memory. A query is one statement
with all its rows; the slowest of some rounds counts.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from hpctrain.index.database import Database, database_at
from hpctrain.index.query import Question, find_runs
from hpctrain.index.read_only import ask
from hpctrain.launch.provenance import fingerprint

REPOSITORY = Path(__file__).resolve().parents[1]
TRAINING = (
    "data.simulate.num_spectra=400", "launch.ranks_per_node=1", "train.max_steps=20", "train.warmup_steps=2",
    "train.evaluate_every_steps=4", "track.tensorboard=false",
)  # fmt: skip
QUESTIONS = (
    Question("chi2 < 1.2 and family = spectral_vae", "chi2"),
    Question("train.batch_size = 64 and train.learning_rate < 1e-3 and state = finished", "best, train.seed desc"),
    Question("lowest.chi2 < 1.2 or last.kl > 20 or not state = finished", "last.chi2 desc", limit=10_000),
    Question("reduced_chi2 < 1.2 and latent_size in (4, 8) and name ~ run-1*", "reduced_chi2", "kwh", limit=10_000),
)
STATEMENTS = (
    "SELECT family, state, count(*), min(best), avg(gpu_hours) FROM run_list GROUP BY family, state",
    "SELECT s.text, count(*), avg(m.best) FROM run_settings s JOIN run_metrics m ON m.id = s.id "
    "WHERE s.key = 'train.batch_size' AND m.metric = 'chi2' GROUP BY s.text",
    "SELECT name, max(value) FROM learning_curves WHERE metric = 'chi2' GROUP BY name ORDER BY 2 LIMIT 20",
    "SELECT task, metric, count(*), min(value) FROM run_judgements GROUP BY task, metric",
    "SELECT path, runs FROM data_sets",
    "SELECT followed, count(*), sum(hours) FROM attempt_list GROUP BY followed",
)
MEASURE = """
import os, resource, subprocess, sys, time
began = time.monotonic()
subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, check=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)
"""
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)}


def train_one(folder: Path) -> Path:
    """Train and validate one small run, and return its directory."""
    profile = REPOSITORY / "profiles" / "quickstart.yaml"
    sets = [f"--set={each}" for each in TRAINING]
    for command in (["local", str(profile), *sets], ["validate", "quickstart"]):
        subprocess.run(
            [sys.executable, "-m", "hpctrain", *command],
            cwd=folder,
            env=ENVIRONMENT,
            stdout=subprocess.DEVNULL,
            check=True,
        )
    return next((folder / "runs" / "quickstart").glob("2*"))


def copy_runs(run: Path, runs: Path, count: int) -> None:
    """Write copies of the files of a run that people would have made with other settings."""
    texts = {
        name: (run / name).read_text()
        for name in ("profile.yaml", "job.json", "provenance.json", "metrics.jsonl", "attempts/ended.tsv")
    }
    whole = ["attempts/0001.json", "heartbeat/rank-0000.json", "monitor/rank-0000.json", "model/model.json"]
    texts |= {name: (run / name).read_text() for name in [*whole, "results/validation.json"]}
    provenance = json.loads(texts["provenance.json"])
    provenance["data"] = [fingerprint(run.parents[2] / "quickstart.h5")]  # it was simulated after the submission
    texts["provenance.json"] = json.dumps(provenance, indent=2)
    for number in range(count):
        _write_copy(texts, runs, run.name, number, random.Random(number))


def _write_copy(texts: dict[str, str], runs: Path, old_id: str, number: int, chance: random.Random) -> None:
    name = f"run-{number % 50}"
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(1.79e9 + 60 * number))
    path = runs / name / f"{stamp}-{number:04x}"
    values = {
        "batch_size": chance.choice((32, 64, 128)),
        "learning_rate": f"{10 ** chance.uniform(-4, -2):.6g}",
        "seed": number,
        "latent_size": chance.choice((2, 4, 8, 16)),
        "name": name,
    }
    worse = math.exp(chance.gauss(0, 0.3))
    for file, text in texts.items():
        target = path / file
        target.parent.mkdir(parents=True, exist_ok=True)
        text = text.replace(old_id, path.name)
        if file == "profile.yaml":
            for key, value in values.items():
                text = re.sub(rf"(?m)^( *{key}:) .*$", rf"\1 {value}", text, count=1)
        elif file == "metrics.jsonl":
            text = _worse(text, worse, has_failed=number % 100 == 0)
        elif file == "results/validation.json":
            text = re.sub(r'"value": ([\d.e-]+)', lambda match: f'"value": {float(match[1]) * worse}', text)
        elif file == "attempts/ended.tsv" and number % 100 == 0:
            text = text.replace("\t0\tnone", "\t6\tnone").replace("finished", "failed")
        target.write_text(text)


def _worse(text: str, factor: float, has_failed: bool) -> str:
    lines = []
    for line in text.splitlines():
        record = json.loads(line)
        for key in ("loss", "chi2", "kl"):
            if isinstance(record.get(key), float):
                record[key] *= factor
        if not (has_failed and record.get("event") == "finished"):
            lines.append(json.dumps(record, separators=(",", ":")))
    return "\n".join(lines) + "\n"


def measure(*arguments: str) -> tuple[float, float, float]:
    """Run a command of hpctrain; return wall time [s], CPU time [s] and peak memory [MiB]."""
    command = [sys.executable, "-c", MEASURE, sys.executable, "-m", "hpctrain", *arguments]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    wall, cpu, mib = map(float, done.stdout.split())
    return wall, cpu, mib


def slowest_queries(database: Database, rounds: int) -> Iterator[tuple[str, int, float]]:
    """Yield each question, its number of rows, and the longest time of some rounds [s]."""
    for question in QUESTIONS:
        times, count = [], 0
        for _ in range(rounds):
            with database.reading() as connection:
                began = time.perf_counter()
                count = len(list(find_runs(connection, question)))
                times.append(time.perf_counter() - began)
        yield f"--where '{question.where}' --sort '{question.sort}'", count, max(times)
    for statement in STATEMENTS:
        times, count = [], 0
        for _ in range(rounds):
            began = time.perf_counter()
            count = len(list(ask(database, statement, 60.0))) - 1
            times.append(time.perf_counter() - began)
        yield statement, count, max(times)


def judge(database: Database, address: str, folder: Path, rounds: int) -> float:
    """Print what an index costs, and return the time of the slowest query [s]."""
    runs = folder / "many" / "runs"
    places = ("--runs-dir", str(runs), "--index", address)
    page = folder / "many" / "index.html"
    touched = sorted(runs.glob("*/*"))[:10]
    print(f"\n{database.dialect:<34} wall s    CPU s  peak MiB")
    for title, arguments in (
        ("index rebuild", ("index", "rebuild", *places)),
        ("index update, nothing changed", ("index", "update", *places)),
        ("index update, 10 runs changed", ("index", "update", *places)),
        ("list --where, no update", ("list", "--where", "chi2 < 1.2", "--sort", "chi2", "--no-update", *places)),
        ("list --where", ("list", "--where", "chi2 < 1.2", "--sort", "chi2", *places)),
        ("index page, no update", ("index", "page", "--no-update", "--out", str(page), *places)),
    ):
        if title.endswith("10 runs changed"):
            for run in touched:
                with open(run / "metrics.jsonl", "a") as stream:
                    stream.write('{"kind":"event","step":20,"time":1795730400.0,"attempt":1,"event":"seen"}\n')
        print("  {:<32} {:6.2f}   {:6.2f}   {:7.0f}".format(title, *measure(*arguments)), flush=True)
    print(f"  page of all runs: {page.stat().st_size / 1e6:.1f} MB")
    slowest = 0.0
    print("  slowest of each query             rows        s")
    for title, count, seconds in slowest_queries(database, rounds):
        print(f"  {count:>36,} {seconds:8.3f}  {title}", flush=True)
        slowest = max(slowest, seconds)
    return slowest


@contextmanager
def postgres(url: str | None) -> Iterator[str | None]:
    """Yield the URL of a PostgreSQL: the given one, or that of a private server; None without its programs."""
    from mlflow_lab import Postgres, postgres_programs

    if url is not None or postgres_programs() is None:
        yield url
        return
    with tempfile.TemporaryDirectory() as folder:
        server = Postgres(Path(folder) / "template")
        try:
            yield server.url
        finally:
            server.stop()


def main() -> None:
    """Make the runs, judge both databases, and end with exit code 1 if a query needs more than a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000, help="number of runs (10000)")
    parser.add_argument("--rounds", type=int, default=5, help="times that each query is asked (5)")
    parser.add_argument("--url", help="PostgreSQL without a password (default: a private one)")
    parser.add_argument("--folder", type=Path, help="keep the runs here, and use them again")
    options: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        runs = folder / "many" / "runs"
        if not runs.exists():
            folder.mkdir(parents=True, exist_ok=True)
            copy_runs(train_one(folder), runs, options.runs)
        file = folder / "many" / "measured.sqlite"
        file.unlink(missing_ok=True)
        slowest = judge(database_at(str(file), runs), str(file), folder, options.rounds)
        print(f"  file: {file.stat().st_size / 1e6:.0f} MB")
        with postgres(options.url) as url:
            if url is not None:
                slowest = max(slowest, judge(database_at(url, runs), url, folder, options.rounds))
    sys.exit(slowest > 1)


if __name__ == "__main__":
    main()
