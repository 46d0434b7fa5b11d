"""Commands on 10,000 run directories, a run of 2 million records, one of 500 attempts, and a log of 1 GB.

    python -m benchmarks.scale [--runs 10000] [--records 2000000] [--log-mb 1000] [--attempts 500] [--folder DIR]

One small run is trained for real; :mod:`benchmarks.scale_runs` makes the others from it. Each command is a process of
its own. The limit beside it is the least that must be done in any case: to list the folder (``os.scandir`` of both
levels), or to read the bytes once. CPU time is compared with it, because it hardly depends on what else the machine
does. Where ``strace`` is installed, the questions to the file system below the folder are counted: on a parallel
file system each is a message to a server. With ``--folder`` the runs are kept and used again.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.index_of_runs import ENVIRONMENT, train_one
from benchmarks.scale_runs import make_attempts, make_log, make_long, make_many
from benchmarks.search import make_study
from hpctrain.rundir import RunDir

LIST = "import os, sys\nfor folder in os.scandir(sys.argv[1]):\n    list(os.scandir(folder.path))"
READ = "import sys\nwith open(sys.argv[1], 'rb') as stream:\n    while stream.read(1 << 20):\n        pass"
MEASURE = """
import resource, subprocess, sys, time
began = time.monotonic()
code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(time.monotonic() - began, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, code)
"""
_KINDS = {"openat": "open", "getdents64": "list", **dict.fromkeys(("newfstatat", "stat", "lstat", "statx"), "stat")}
MOST_TRACED_S = 3.0
"""Commands that need more CPU time than this are not traced, which would take minutes [s]."""


@dataclass(frozen=True)
class Case:
    """A command, and the least that it must do: `limit` is a program of Python with its argument."""

    title: str
    command: tuple[str, ...]
    limit: tuple[str, str]


def measure(*command: str) -> tuple[float, float, float]:
    """Run a Python command; return wall time [s], CPU time [s] and peak memory [MiB]."""
    words = [sys.executable, "-c", MEASURE, sys.executable, *command]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    wall, cpu, mib, code = map(float, done.stdout.split())
    if code:
        raise SystemExit(f"{' '.join(command)}: exit code {code:.0f}")
    return wall, cpu, mib


def questions(folder: Path, *command: str) -> Counter[str] | None:
    """Return how often a command opens, lists and looks at names below a folder; None without strace."""
    if shutil.which("strace") is None:
        return None
    with tempfile.NamedTemporaryFile("r", errors="replace") as trace:
        tracing = ["strace", "-f", "-y", "-qq", "-e", "trace=file,getdents64", "-o", trace.name, sys.executable]
        subprocess.run([*tracing, *command], env=ENVIRONMENT, stdout=subprocess.DEVNULL, check=True)
        calls = (re.search(r"(\w+)\(", line) for line in trace if str(folder) in line and "AT_EMPTY_PATH" not in line)
        return Counter(_KINDS.get(call[1], call[1]) for call in calls if call)


def cases(folder: Path) -> Iterator[Case]:
    """Yield the commands for what :func:`make` has made."""
    runs, limit = folder / "many" / "runs", (LIST, str(folder / "many" / "runs"))
    at = ("--runs-dir", str(runs))
    yield Case("list", ("list", *at), limit)
    yield Case("list --name", ("list", *at, "--name", "survey-07"), limit)
    yield Case("list --state lost", ("list", *at, "--state", "lost"), limit)
    yield Case("list --last 200", ("list", *at, "--last", "200"), limit)
    yield Case("status, the newest run", ("status", *at), limit)
    yield Case("status, by name", ("status", *at, "survey-07"), limit)
    yield Case("monitor --once, the newest", ("monitor", *at, "--once"), limit)
    yield Case("clean --dry-run", ("clean", *at, "--dry-run"), limit)
    yield Case("cost --since", ("cost", *at, "--since", "2026-01-01"), limit)
    study = next((folder / "studies").glob("*/*"))
    yield Case("search status", ("search", "status", str(study)), (LIST, str(study.parent)))
    for name in ("long", "attempts"):
        run = next((folder / name).glob("*/*"))
        read = (READ, str(run / "metrics.jsonl"))
        yield Case(f"{name}: status", ("status", str(run)), read)
        yield Case(f"{name}: monitor --once", ("monitor", "--once", str(run)), read)
        yield Case(f"{name}: report", ("report", str(run), "--out", str(folder / f"{name}.html")), read)
        yield Case(f"{name}: advise", ("advise", str(run)), read)
        yield Case(f"{name}: plot loss", ("plot", str(run), "loss"), read)
        yield Case(f"{name}: cost", ("cost", str(run)), read)
        yield Case(f"{name}: diff with itself", ("diff", str(run), str(run)), read)
        yield Case(f"{name}: logs -n 20", ("logs", str(run), "-n", "20"), (READ, str(newest_log(run))))
    yield Case("long: logs", ("logs", str(next((folder / "long").glob("*/*")))), cases_log(folder))


def newest_log(run: Path) -> Path:
    """Return the newest log of rank 0."""
    return max(run.glob("logs/job-*-rank-0000.log"), key=lambda path: path.stat().st_mtime)


def cases_log(folder: Path) -> tuple[str, str]:
    """Return the limit of a command that prints the whole long log."""
    return READ, str(newest_log(next((folder / "long").glob("*/*"))))


def make(folder: Path, options: argparse.Namespace) -> None:
    """Make everything, once."""
    if (folder / "studies").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    model = RunDir(train_one(folder))
    make_many(model, folder / "many" / "runs", options.runs)
    make_log(make_long(model, folder / "long", options.records), options.log_mb * 10**6)
    make_attempts(model, folder / "attempts", options.attempts)
    make_study(folder / "studies" / "search" / "20261126-140000-bbbb", options.runs)


def show(case: Case, folder: Path) -> None:
    """Measure a command and print its line."""
    bare = measure("-c", "pass")[1]
    limit_s = max(measure("-c", *case.limit)[1] - bare, 1e-3)
    wall, cpu, mib = measure("-m", "hpctrain", *case.command)
    asked = questions(folder, "-m", "hpctrain", *case.command) if cpu < MOST_TRACED_S else None
    counts = "  ".join(f"{asked[kind]:>6}" for kind in ("open", "list", "stat")) if asked is not None else "     -"
    print(f"{case.title:<28}{wall:>8.2f}{cpu:>8.2f}{cpu / limit_s:>9.1f}{mib:>7.0f}  {counts}", flush=True)


def main() -> None:
    """Make the runs and measure all commands."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, number in (("runs", 10_000), ("records", 2_000_000), ("log-mb", 1000), ("attempts", 500)):
        parser.add_argument(f"--{name}", type=int, default=number, help=f"(default: {number:,})")
    parser.add_argument("--folder", type=Path, help="keep what is made here, and use it again")
    parser.add_argument("--only", default="", metavar="TEXT", help="only commands whose title has this text")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (options.folder or Path(temporary)).absolute()
        make(folder, options)
        print(f"{'command':<28}{'wall s':>8}{'CPU s':>8}{'x limit':>9}{'MiB':>7}    open    list    stat")
        for case in cases(folder):
            if options.only in case.title:
                show(case, folder)


if __name__ == "__main__":
    main()
