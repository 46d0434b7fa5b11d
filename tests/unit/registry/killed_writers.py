"""Kill -9 before every call that changes the disk, in forks of this process; and many writers at once.

python killed_writers.py FOLDER kills | crowd
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from registered_runs import GATE, added, finished_run

from hpctrain.registry.actions import faults_of, promote
from hpctrain.registry.add import add_run
from hpctrain.registry.aliases import current, history_of
from hpctrain.registry.folder import Registry
from hpctrain.registry.trail_verify import verify_trail
from hpctrain.rundir import RunDir

CALLS = {"mkdir", "open", "write", "flush", "fchmod", "chmod", "fsync", "rename", "link", "unlink", "rmdir", "utime"}


def fork(action: Callable[[], object]) -> int:
    child = os.fork()
    if child == 0:
        try:
            action()
            os._exit(0)
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
    return child


def killed_before(number: int, action: Callable[[], object]) -> bool:
    """Kill a fork before its call with this number; return False if it has ended before."""

    def count(frame: object, event: str, function: object) -> None:
        nonlocal number
        if event == "c_call" and getattr(function, "__name__", "") in CALLS:
            if number == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            number -= 1

    def counted() -> None:
        sys.setprofile(count)
        action()
        sys.setprofile(None)

    code = os.waitstatus_to_exitcode(os.waitpid(fork(counted), 0)[1])
    assert code in (0, -signal.SIGKILL), code
    return code != 0


def check(registry: Registry) -> None:
    faults = [(what, found) for what, found, _ in faults_of(registry, registry.names()) if found]
    assert not faults, faults
    assert not verify_trail(registry).faults, verify_trail(registry).faults


def kills(folder: Path) -> None:
    """An add and a promotion, killed before each call, then repeated, each in a registry of its own."""
    base, runs = Registry(folder / "base"), folder / "runs"
    for weight in (1.0, 2.0):
        added(base, runs, weight, [GATE])
    promote("photoz:1", "champion", "first", base)
    run = finished_run(runs, 3.0, [GATE])
    of_add = of_promotion = 0
    while add_is_killed(copy(base, folder, f"add-{of_add}"), run, of_add):
        of_add += 1
    while promotion_is_killed(copy(base, folder, f"promote-{of_promotion}"), of_promotion):
        of_promotion += 1
    print(of_add, of_promotion)


def copy(base: Registry, folder: Path, name: str) -> Registry:
    return Registry(shutil.copytree(base.path, folder / name))


def add_is_killed(registry: Registry, run: RunDir, number: int) -> bool:
    is_killed = killed_before(number, lambda: add_run(run, "photoz", registry))
    check(registry)
    numbers = registry.model("photoz").numbers()
    assert numbers in ([1, 2], [1, 2, 3])
    again = add_run(run, "photoz", registry)
    assert again.is_new == (len(numbers) == 2)
    assert registry.model("photoz").numbers() == [1, 2, 3]
    return is_killed


def promotion_is_killed(registry: Registry, number: int) -> bool:
    model = registry.model("photoz")
    is_killed = killed_before(number, lambda: promote("photoz:2", "champion", "better", registry))
    check(registry)
    assert current(model, "champion") in (1, 2)
    promote("photoz:2", "champion", "better", registry)
    assert [move.to for move in history_of(model, "champion")] == [1, 2]
    return is_killed


def crowd(folder: Path) -> None:
    """Four writers add four runs each, the last of which is the same for all, and move an alias."""
    registry, runs = Registry(folder / "registry"), folder / "runs"
    own = [[finished_run(runs, 10 * writer + each, [GATE]) for each in range(3)] for writer in range(4)]
    shared = finished_run(runs, 1000.0, [GATE])
    first = added(registry, runs, 2000.0, [GATE])
    door, opened = os.pipe()

    def write(writer: int) -> None:
        os.close(opened)
        os.read(door, 1)
        for run in [*own[writer], shared]:
            version = add_run(run, "photoz", registry).version
            promote(str(version), "champion", f"by {writer}", registry)

    children = [fork(lambda writer=writer: write(writer)) for writer in range(4)]
    os.close(opened)
    assert [os.waitpid(child, 0)[1] for child in children] == [0] * 4
    model = registry.model("photoz")
    assert first.number == 1
    assert model.numbers() == list(range(1, 1 + 4 * 3 + 1 + 1))
    moves = history_of(model, "champion")
    assert [move.facts["from"] for move in moves[1:]] == [move.to for move in moves[:-1]]
    check(registry)
    print(len(moves))


if __name__ == "__main__":
    {"kills": kills, "crowd": crowd}[sys.argv[2]](Path(sys.argv[1]))
