"""What a terminal shows while a stage runs here: how long, and its step or the last line of its log."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator

from hpctrain.launch.present import steps
from hpctrain.launch.status import describe
from hpctrain.pipeline.folder import RUNNING, PipelineDir, StageDir
from hpctrain.pipeline.section import TRAIN
from hpctrain.terminal import console, printable
from hpctrain.words import format_duration

_REFRESH_PER_S = 2.0
_PIPE_EVERY_S = 60.0
_END_BYTES = 4096


@contextlib.contextmanager
def progress(pipeline: PipelineDir) -> Iterator[Callable[[str], None]]:
    """Show what runs while the block does: a line that changes on a terminal, a line each minute elsewhere.

    Yields
    ------
    callable
        Prints a line above it.
    """
    if sys.stdout.isatty():
        from rich.live import Live
        from rich.text import Text

        screen = console()

        def line() -> Text:
            return Text(printable(line_of(pipeline))[: screen.width - 1], style="dim")

        with Live(console=screen, get_renderable=line, refresh_per_second=_REFRESH_PER_S, transient=True):
            yield print  # which rich sends to its own console meanwhile
        return
    ended = threading.Event()

    def tell() -> None:
        while not ended.wait(_PIPE_EVERY_S):
            if text := line_of(pipeline):
                print(printable(text), flush=True)

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield lambda text: print(text, flush=True)
    finally:
        ended.set()
        thread.join()


def line_of(pipeline: PipelineDir) -> str:
    """Return what the stage that runs is at; empty if none does."""
    section = pipeline.section()
    for number, own in enumerate(section.stages, start=1):
        stage = pipeline.stage(own.name)
        state = stage.read_state()
        if state.state == RUNNING:
            spent = format_duration(time.time() - state.started_at)
            at = _step_of(stage) if own.does == TRAIN else _last_line_of(stage, state.key)
            return f"{own.name} ({number} of {len(section.stages)}): {spent}{f', {at}' if at else ''}"
    return ""


def _step_of(stage: StageDir) -> str:
    status = describe(stage, ask_queue=False)
    loss = f", loss {status.loss:.4g}" if status.loss is not None else ""
    return f"step {steps(status)}{loss}" if status.step else status.state


def _last_line_of(stage: StageDir, key: str) -> str:
    try:
        with open(stage.work(key) / "log.txt", "rb") as log:
            log.seek(max(0, log.seek(0, os.SEEK_END) - _END_BYTES))
            lines = log.read().decode("utf-8", "replace").split("\n")
    except OSError:
        return ""
    said = [line.strip() for line in lines if line.strip() and not line.startswith("$ ")]
    return said[-1] if said else ""
