"""``python -m hpctrain.pipeline.stage STAGE_DIR``: do one stage, unless its results are there already.

It may be killed at any point and called again: results are moved to their place as a whole, so they are there or not.
Exit codes: 0 done, 7 a gate or the data failed, and those of ``errors.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from hpctrain.access import access_of, enter
from hpctrain.access_tree import change_tree
from hpctrain.credentials.hide import error_line, hide_in_tracebacks, hide_secrets
from hpctrain.errors import CheckpointError, DataError, GateError, HpctrainError, SiteError
from hpctrain.files import SOURCE_DATE, fsync_directory
from hpctrain.launch.environment import environment_of_ranks
from hpctrain.pipeline import folder
from hpctrain.pipeline.cost import begin_attempt, cost_of, end_attempt
from hpctrain.pipeline.folder import NEW_FILE, RESULT, StageDir, StageState
from hpctrain.pipeline.keys import date_of, differences, digests_of_files, inputs_of, key_of, parts_of
from hpctrain.pipeline.kinds import OUT, all_before, allowed_codes, commands_of, filled, needs_of
from hpctrain.pipeline.section import NEW, TRAIN
from hpctrain.rundir import read_json, write_json
from hpctrain.terminal import printable

STAGE_MODULE = "hpctrain.pipeline.stage"
MODEL_FILES = ("model/model.safetensors", "model/model.json", "results/predictions.h5", "results/latents.h5")
"""Files of a finished run whose SHA-256 stand for its results."""


def do_stage(stage: StageDir) -> int:
    """Do a stage that does not train; return its exit code.

    Raises
    ------
    HpctrainError
        A stage that it needs is not done, an input is missing, or a command failed.
    """
    if not_needed(stage):
        return 0
    parts, key, is_done = look(stage)
    if is_done:
        return 0
    own = stage.section()
    with alone(stage, key) as lock:
        if stage.read_result(key) is not None and not own.always:  # another pipeline has just done it
            stage.write_state(replace(stage.read_state(), state=folder.DONE_BEFORE, ended_at=time.time(), exit_code=0))
            return 0
        started, work = time.time(), stage.work(key)
        begin_attempt(stage, work)
        stage.write_state(replace(stage.read_state(), state=folder.RUNNING, started_at=started))
        shutil.rmtree(work, ignore_errors=True)
        (work / OUT).mkdir(parents=True)
        date = date_of(stage, parts["inputs"])
        looks = own.does == NEW and not own.run
        code = _look_for_new(stage, work) if looks else _run_commands(stage, work, date, lock)
        end_attempt(stage)
        if code:
            gate = code == GateError.exit_code
            failed = folder.GATE_FAILED if gate else folder.FAILED
            stage.write_state(replace(stage.read_state(), state=failed, ended_at=time.time(), exit_code=code))
            return code if 0 < code < 8 else 1
        _refuse_missing(own.outputs, work / OUT)
        _refuse_changed(stage, parts["inputs"])
        facts = {"digests": digests_of(work / OUT), "started_at": started, "date": date}
        seal(stage, key, parts, facts, replaces=own.always)
    return 0


def _look_for_new(stage: StageDir, work: Path) -> int:
    from hpctrain.pipeline.fresh import look_for_new  # numpy, which nobody else needs here

    found = look_for_new(stage, work / OUT, places_of(stage, work / OUT))
    stage.write_state(replace(stage.read_state(), note=found.why))
    print(printable(f"hpctrain: {stage.stage_name}: {found.why}"), flush=True)
    return 0


def not_needed(stage: StageDir) -> bool:
    """Return whether a stage ``new`` before this one has found too little to go on; write that into the state."""
    section = stage.pipeline.section()
    for name in all_before(section, stage.section()):
        other = stage.pipeline.stage(name)
        if other.section().does != NEW or not (key := other.read_state().key):
            continue
        found = read_json(other.sealed(key) / OUT / NEW_FILE)
        if isinstance(found, dict) and found.get("go") is False:
            note = f"{name}: {found.get('why')}"
            stage.write_state(StageState(folder.NOT_NEEDED, ended_at=time.time(), exit_code=0, note=note))
            return True
    return False


def look(stage: StageDir) -> tuple[dict[str, Any], str, bool]:
    """Return what the results of a stage depend on, their key, and whether they are there already.

    It also writes into the state of the stage what has changed since it was done last.
    """
    results = {
        need: _digest_of(stage.pipeline.stage(need)) for need in needs_of(stage.pipeline.section(), stage.section())
    }
    parts = parts_of(stage, results)
    key = key_of(parts)
    before = stage.newest_result()
    is_done = stage.read_result(key) is not None and not stage.section().always
    why = [] if is_done else differences(before and before.get("parts"), parts)
    now = time.time()
    if is_done:
        stage.write_state(StageState(folder.DONE_BEFORE, key, why, now, now, 0))
    else:
        stage.write_state(StageState(folder.WAITING, key, why))
    return parts, key, is_done


def seal(stage: StageDir, key: str, parts: Mapping[str, Any], facts: Mapping[str, Any], replaces: bool = False) -> None:
    """Move the results of a stage to their place, as a whole, with what went in and what came out."""
    work, sealed = stage.work(key), stage.sealed(key)
    now = time.time()
    size = sum(path.stat().st_size for path in work.rglob("*") if path.is_file())
    made = {"pipeline": stage.pipeline.id, "cost": asdict(cost_of(stage))}
    record = {
        "key": key, "stage": stage.stage_name, "parts": dict(parts), "ended_at": now, "bytes": size, **made, **facts,
    }  # fmt: skip
    write_json(work / RESULT, record)
    if (access := access_of(work)) is not None:  # cp and others keep permissions that are narrower
        change_tree(work, access, only_mine=True)
    if replaces and sealed.exists():
        shutil.rmtree(sealed)
    if sealed.exists() and stage.read_result(key) is None:  # a training whose run directory is gone
        shutil.rmtree(sealed)
    os.rename(work, sealed)
    fsync_directory(sealed.parent)
    stage.write_state(replace(stage.read_state(), state=folder.DONE, ended_at=now, exit_code=0))


def digests_of(out: Path) -> dict[str, str]:
    """Return the SHA-256 of each file below a folder, by its path there."""
    paths = [path for path in sorted(out.rglob("*")) if path.is_file()]
    return dict(zip([str(path.relative_to(out)) for path in paths], digests_of_files(paths), strict=True))


def lock_of(stage: StageDir, key: str) -> Path:
    """Return the file that is locked while results are made."""
    return stage.pipeline.store / stage.stage_name / f"{key}.lock"


@contextlib.contextmanager
def alone(stage: StageDir, key: str) -> Iterator[int]:
    """Wait until nothing else makes the same results.

    Yields
    ------
    int
        Descriptor of the lock. Commands inherit it, so those that outlive a stage that was killed hold it, too.
    """
    path = lock_of(stage, key)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"{stage.stage_name}: waits for another process that makes the same results", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock.fileno()


def places_of(stage: StageDir, out: Path) -> dict[str, str]:
    """Return what stands for each name between braces: folders of results, and run directories."""
    section = stage.pipeline.section()
    places = {OUT: str(out)}
    for each in section.stages:
        other = stage.pipeline.stage(each.name)
        if each.name == stage.stage_name:
            break
        key = other.read_state().key
        if key:
            result = other.read_result(key) or {}
            places[each.name] = result.get("run") or str(other.sealed(key) / OUT)
        elif each.skip and (instead := [need for need in needs_of(section, each) if need in places]):
            places[each.name] = places[instead[-1]]
    return places


def _digest_of(stage: StageDir) -> str:
    """Return what stands for the results of a stage that another one needs.

    Raises
    ------
    DataError
        It is not done.
    """
    state = stage.read_state()
    own = stage.section()
    if own.does == TRAIN and state.state in (folder.WAITING, folder.RUNNING) and state.key:
        from hpctrain.pipeline.training import seal_training

        seal_training(stage)
        state = stage.read_state()
    result = stage.read_result(state.key) if state.key else None
    if result is None or state.state not in (folder.DONE, folder.DONE_BEFORE):
        raise DataError(f"{stage.path}: stage {stage.stage_name} is {state.state}, and its results are needed")
    return key_of({"key": state.key, "digests": result.get("digests", {})})


def _run_commands(stage: StageDir, work: Path, date: int, lock: int) -> int:
    """Run the commands of a stage; return the first exit code that means failure, or 0.

    `date` [s since 1970] is what their files shall hold as the time at which they were made; `lock` is the descriptor
    that they inherit.
    """
    own, pipeline = stage.section(), stage.pipeline
    places = places_of(stage, work / OUT)
    cwd = pipeline.read_record().get("cwd") or os.getcwd()
    stage.logs.mkdir(parents=True, exist_ok=True)
    with open(work / "log.txt", "ab", buffering=0) as log:
        for template in commands_of(pipeline.section(), own):
            words = [word for text in template for word in _expanded(filled(text, places), template)]
            log.write(f"$ {hide_secrets(shlex.join(words))}\n".encode())
            print(printable(f"{stage.stage_name}: {hide_secrets(_as_typed(template))}"), flush=True)
            code = _run(words, cwd, log, date, lock)
            if code not in allowed_codes(own):
                _show_end(work / "log.txt")
                return code
    return 0


def _run(words: Sequence[str], cwd: str, log: Any, date: int, lock: int) -> int:
    # Without a seed Python's sets have another order in each process.
    environment = {"PYTHONHASHSEED": "0", **environment_of_ranks(), SOURCE_DATE: str(date)}
    command = [sys.executable, "-m", "hpctrain", *words[1:]] if words[0] == "hpctrain" else list(words)
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[lock],
            check=False,
        )
        return done.returncode
    except OSError as error:
        log.write(f"hpctrain: {words[0]}: {error.strerror}\n".encode())
        return SiteError.exit_code


def _as_typed(template: Sequence[str]) -> str:
    """Return a command on one line, with quotes only where a word has blanks."""
    return " ".join(shlex.quote(word) if " " in word or not word else word for word in template)


def _expanded(word: str, command: Sequence[str]) -> list[str]:
    """Return the files that a pattern matches, as a shell would; the word itself if there is none.

    ``hpctrain ingest`` finds the files itself: there may be more of them than a command line holds, and it knows which
    ones a survey puts beside its spectra.
    """
    if command[:2] == ["hpctrain", "ingest"] or not any(character in word for character in "*?["):
        return [word]
    return sorted(glob.glob(word, recursive=True)) or [word]


def _show_end(log: Path, num_lines: int = 20) -> None:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()[-num_lines:]
    print(printable("\n".join(f"  {line}" for line in lines)), file=sys.stderr, flush=True)


def _refuse_missing(names: Sequence[str], out: Path) -> None:
    if missing := [name for name in names if not glob.glob(str(out / name))]:
        raise CheckpointError(f"{out}: the commands have ended well, and did not write {', '.join(missing)} (outputs)")


def _refuse_changed(stage: StageDir, inputs: Mapping[str, str]) -> None:
    """Refuse results of inputs that have changed since their hashes were taken."""
    now = inputs_of(stage.pipeline, stage.section())
    if changed := sorted(path for path in {*inputs, *now} if inputs.get(path) != now.get(path)):
        more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
        message = f"{changed[0]}{more}: changed, came or went while the commands ran; call the same command again"
        raise DataError(f"stage {stage.stage_name}: {message}")


def main(arguments: list[str]) -> int:
    """Do the stage named on the command line and return the exit code."""
    return called(arguments, __doc__ or "", do_stage)


def called(arguments: list[str], usage: str, work: Callable[[StageDir], int]) -> int:
    """Do some work for the stage named on the command line; note an error in its state, and return the exit code."""
    if len(arguments) != 1 or arguments[0].startswith("-"):
        print(usage.strip(), file=sys.stderr)
        return 0 if arguments in (["-h"], ["--help"]) else 2
    stage = StageDir(arguments[0])
    enter(stage.path)
    try:
        return work(stage)
    except HpctrainError as error:
        print(f"hpctrain: {error_line(error)}", file=sys.stderr)
        failed = {"state": folder.FAILED, "ended_at": time.time(), "exit_code": error.exit_code}
        stage.write_state(replace(stage.read_state(), **failed))
        return error.exit_code


if __name__ == "__main__":
    hide_in_tracebacks()
    sys.exit(main(sys.argv[1:]))
