"""The section of the report that says what to change."""

from __future__ import annotations

from html import escape

from hpctrain.advice.advise import advise
from hpctrain.advice.gather import summarise
from hpctrain.drawing.table import table
from hpctrain.report.gather import RunFacts
from hpctrain.report.text import cut, error_text


def advice_section(facts: RunFacts) -> str:
    """Return the advice for a run as HTML; empty if no rule finds anything."""
    try:
        found = advise(summarise(facts.run, facts.history, facts.now))
    except Exception as error:  # a rule that stumbles over damaged records must not cost the page
        return f'<p class="note">No advice: {escape(error_text(error))}</p>'
    rows = [
        [
            f"{escape(cut(said.seen, 400))}<small>{escape(said.rule)}</small>",
            escape(said.why),
            "<br>".join([*(f"<code>{escape(str(change))}</code>" for change in said.changes), escape(said.todo)]),
            escape(said.gain),
        ]
        for said in found
    ]
    return table(["Seen", "Why", "What to change", "Gain"], rows) if rows else ""
