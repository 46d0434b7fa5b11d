"""Advice as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from hpctrain.advice.advice import Advice

NOTHING = "no rule finds anything to change"


def lines_of(found: Sequence[Advice], width: int = 100) -> list[str]:
    """Return the advice as lines: a title, then what was seen, why, what to change, and the gain."""
    lines: list[str] = []
    for number, said in enumerate(found, start=1):
        lines += [""] if lines else []
        lines.append(f"{number}. {said.rule}")
        parts = [("seen", said.seen), ("why", said.why), *(("change", str(change)) for change in said.changes)]
        parts += [("do" if not said.changes else "or", said.todo), ("gain", said.gain)]
        for name, text in parts:
            if text:
                first, rest = f"   {name:<8}", " " * 11
                lines += textwrap.wrap(
                    text, width, initial_indent=first, subsequent_indent=rest, break_long_words=False
                )
    return lines or [NOTHING]
