"""The logs of a stage: what its commands have said, or the log of a rank where it trains."""

from __future__ import annotations

import codecs
import os
import time
from collections.abc import Iterator
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.launch.logs import log_files, text_of
from hpctrain.pipeline import folder
from hpctrain.pipeline.describe import states_of
from hpctrain.pipeline.folder import PipelineDir, StageDir
from hpctrain.pipeline.section import TRAIN

_BLOCK = 1 << 16
_LOOK_EVERY_S = 0.5


def stage_to_show(pipeline: PipelineDir, name: str | None) -> StageDir:
    """Return the stage with a name; without one the stage that runs or has failed, else the last one that has begun.

    Raises
    ------
    ProfileError
        There is no such stage, or none has begun.
    """
    known = [stage.name for stage in pipeline.section().stages]
    if name is not None:
        if name not in known:
            message = f"there is no stage '{name}'; there are {', '.join(known)}"
            raise ProfileError("command line", [Problem("STAGE", message)])
        return pipeline.stage(name)
    states = {each["stage"]: each["state"] for each in states_of(pipeline)}
    for wanted in ((folder.RUNNING, folder.FAILED, folder.GATE_FAILED), (folder.DONE, folder.DONE_BEFORE)):
        if found := [stage for stage, state in states.items() if state in wanted]:
            return pipeline.stage(found[-1])
    raise ProfileError("command line", [Problem("", f"{pipeline.path}: no stage has begun")])


def log_lines(stage: StageDir, num_lines: int | None = None) -> Iterator[str]:
    """Yield what a stage has said, in pieces.

    Parameters
    ----------
    stage : StageDir
    num_lines : int or None
        Only so many lines, the last ones.

    Raises
    ------
    ProfileError
        It has no log yet.
    """
    if stage.section().does == TRAIN and log_files(stage, 0):
        yield from text_of(stage, 0, None, num_lines)
        return
    path = _log_of_commands(stage) or next(iter(reversed(log_files(stage, 0))), None)
    if path is None:
        state = stage.read_state().state
        raise ProfileError("command line", [Problem("logs", f"stage {stage.stage_name} is {state}; it has no log yet")])
    text = path.read_text(encoding="utf-8", errors="replace")
    yield text if num_lines is None else "".join(text.splitlines(keepends=True)[-num_lines:])


def follow(stage: StageDir) -> Iterator[str]:
    """Yield what the commands of a stage say until it ends; what a killed attempt has said may be cut off."""
    position, decoder = 0, codecs.getincrementaldecoder("utf-8")("replace")
    while True:
        is_over = stage.read_state().state not in (folder.WAITING, folder.RUNNING)
        path = _log_of_commands(stage)
        if path is not None:
            with open(path, "rb") as log:
                position = position if position <= log.seek(0, os.SEEK_END) else 0
                log.seek(position)
                while piece := log.read(_BLOCK):
                    yield decoder.decode(piece)
                position = log.tell()
        if is_over:
            return
        time.sleep(_LOOK_EVERY_S)


def _log_of_commands(stage: StageDir) -> Path | None:
    key = stage.read_state().key
    found = [path / "log.txt" for path in (stage.work(key), stage.sealed(key))] if key else []
    return next((path for path in found if path.is_file()), None)
