"""Show progress: one live line on a terminal, plain lines in a log file."""

from __future__ import annotations

import os
import sys
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from hpctrain.metrics.events import read_event
from hpctrain.metrics.exporters.exporter import Exporter
from hpctrain.terminal import printable, raw
from hpctrain.words import Words, format_count, format_duration, format_number

LIVE_INTERVAL_S = 0.25
LOG_INTERVAL_S = 10.0
RATE_WINDOW_S = 120.0
MAX_BAR_WIDTH = 24


class ProgressLine(Exporter):
    """Show progress.

    On a terminal the class redraws one line at most four times a second, fits it to the width, and prints events above
    it. Elsewhere it writes a line every ten seconds and at each evaluation and event.

    Parameters
    ----------
    total_steps : int
        Last step of the run.
    words : Words
        What users call the samples and metrics of the run.
    stream : TextIO, optional
        Stream to write to; ``sys.stderr`` by default.
    clock : callable, optional
        Returns the time [s], which decides when to redraw.
    """

    def __init__(
        self,
        total_steps: int,
        words: Words,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.total_steps = total_steps
        self._words = words
        stream = raw(stream or sys.stderr)
        self._stream = stream
        self._clock = clock
        self._live = stream.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        self._color = self._live and not os.environ.get("NO_COLOR")
        self._step = 0
        self._values: Mapping[str, Any] = {}
        self._validation_loss: float | None = None
        self._marks: deque[tuple[float, int]] = deque()
        self._last_shown = -float("inf")
        self._drawn = False

    def __call__(self, record: Mapping[str, Any]) -> None:
        """Show one record of ``metrics.jsonl``."""
        if record["kind"] == "event":
            self.message(read_event(record).describe(self._words))
        elif record["kind"] == "eval":
            self._validation_loss = record.get("loss")
            self.message(self._evaluation_text(record))
        elif record["kind"] == "train":
            self._values = record
            self.tick(record["step"])

    def tick(self, step: int) -> None:
        """Show that `step` is done. The call is cheap enough for every step."""
        now = self._clock()
        if step < self._step:
            self._marks.clear()
        self._step = step
        self._marks.append((now, step))
        while len(self._marks) > 2 and now - self._marks[0][0] > RATE_WINDOW_S:
            self._marks.popleft()
        interval = LIVE_INTERVAL_S if self._live else LOG_INTERVAL_S
        if now - self._last_shown >= interval or (self._values and step == self.total_steps):
            self._last_shown = now
            self._show()

    def message(self, text: str) -> None:
        """Write a permanent line above the live one."""
        if not text:
            return
        if self._live:
            self._stream.write(f"\r\x1b[K{self._stamp()}  {printable(text)}\n")
            self._drawn = False
            self._show()
        else:
            self._stream.write(f"{self._stamp()}  {text}\n")
            self._stream.flush()

    def close(self) -> None:
        """Leave the cursor on a new line."""
        if self._drawn:
            self._show()
            self._stream.write("\n")
            self._stream.flush()
            self._drawn = False

    def _stamp(self) -> str:
        text = time.strftime("%H:%M:%S" if self._live else "%Y-%m-%d %H:%M:%S")
        return f"\x1b[2m{text}\x1b[0m" if self._color else text

    def _evaluation_text(self, record: Mapping[str, Any]) -> str:
        parts = [f"validation at step {record['step']}"]
        for name, label in (("loss", "loss"), *((metric.name, metric.label) for metric in self._words.metrics)):
            if name in record:
                parts.append(f"{label} {format_number(record[name])}")
        if number := record.get(self._words.count_field):
            samples = f"{format_count(number)} {self._words.many}"
            parts.append(f"{samples} in {record['seconds']:.3g} s" if "seconds" in record else samples)
        return "  ".join(parts)

    def _seconds_left(self) -> float | None:
        if len(self._marks) < 2:
            return None
        (first_time, first_step), (last_time, last_step) = self._marks[0], self._marks[-1]
        if last_step <= first_step or last_time <= first_time:
            return None
        return (self.total_steps - last_step) * (last_time - first_time) / (last_step - first_step)

    def _fields(self) -> list[tuple[int, str]]:
        """Return (priority, text) from left to right; a narrow terminal shows only the lowest numbers."""
        values, width = self._values, len(str(self.total_steps))
        fields = [(0, f"step {self._step:>{width}}/{self.total_steps}")]
        if values.get("epoch") is not None:
            fields.append((5, f"epoch {values['epoch']:.2f}"))
        if "loss" in values:
            fields.append((1, f"loss {format_number(values['loss'])}"))
        if self._validation_loss is not None:
            fields.append((3, f"val {format_number(self._validation_loss)}"))
        if values.get("lr") is not None:
            fields.append((7, f"lr {values['lr']:.2e}"))
        if "grad_norm" in values:
            fields.append((8, f"grad {format_number(values['grad_norm'])}"))
        if values.get("samples_per_s") is not None:
            fields.append((4, f"{format_count(values['samples_per_s'])} {self._words.many}/s"))
        if values.get("memory_gib"):
            fields.append((9, f"{values['memory_gib']:.1f} GiB"))
        seconds_left = self._seconds_left()
        if seconds_left is not None and self._step < self.total_steps:
            fields.append((2, f"{format_duration(seconds_left)} left"))
        return fields

    def _show(self) -> None:
        if not self._live:
            share = f"({100 * self._step / max(1, self.total_steps):.1f} %)"
            first, *others = [text for _, text in self._fields()]
            self._stream.write("  ".join([self._stamp(), f"{first} {share}", *others]) + "\n")
        elif self._step or self._values:
            self._stream.write(f"\r{self._live_line(self._columns())}\x1b[K")
            self._drawn = True
        self._stream.flush()

    def _columns(self) -> int:
        try:
            columns = os.get_terminal_size(self._stream.fileno()).columns
        except (OSError, ValueError):  # some terminals have no size
            columns = 0
        return max(20, columns) if columns else 80

    def _live_line(self, columns: int) -> str:
        room = columns - 1  # the last column would wrap on some terminals
        fields = self._fields()
        while len(fields) > 1 and sum(len(text) + 2 for _, text in fields) - 2 > room:
            fields.remove(max(fields))
        text = "  ".join(text for _, text in fields)[:room]
        width = min(MAX_BAR_WIDTH, room - len(text) - 7)  # two blanks before the bar, " 100 %" after it
        if width < 6:
            return text
        share = min(1.0, self._step / max(1, self.total_steps))
        done = int(share * width)
        bar, rest = "━" * done, "─" * (width - done)
        if self._color:
            bar, rest = f"\x1b[36m{bar}", f"\x1b[2m{rest}\x1b[0m"
        return f"{bar}{rest}{100 * share:4.0f} % {text}"
