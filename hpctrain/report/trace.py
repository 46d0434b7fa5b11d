"""The section of the report that says what the time of a step went to."""

from __future__ import annotations

from html import escape

from hpctrain.drawing.table import table
from hpctrain.report.gather import RunFacts
from hpctrain.traces.words import HOW_TO_OPEN, in_words, kernel_rows, read_summaries

MOST_RANKS = 8
"""Largest number of ranks to show; `hpctrain trace` has all."""


def trace_section(facts: RunFacts) -> str:
    """Return what the profiler recorded, as HTML; empty if the run has recorded no steps."""
    found = read_summaries(facts.run)
    parts = []
    for summary in found[:MOST_RANKS]:
        first, *rest = in_words(summary)
        parts.append(f'<p class="lead">{escape(first[0].upper() + first[1:])}.</p>')
        parts.append(f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in rest)}</ul>")
        head = "Kernel" if "device" in summary else "Operator"
        rows = [[escape(cell) for cell in row] for row in kernel_rows(summary)]
        shown = table(["Time", "Calls a step", head], rows) if rows else ""
        parts.append(f'<details class="figures"><summary>{head}s that took longest</summary>{shown}</details>')
    if found:
        more = f"{len(found) - MOST_RANKS} more ranks recorded steps. " if len(found) > MOST_RANKS else ""
        name = escape(f"{facts.run.traces.name}/{found[0].get('trace', '')}")
        parts.append(f'<p class="note">{more}The trace is in <code>{name}</code>: {escape(HOW_TO_OPEN)}.</p>')
    return "".join(parts)
