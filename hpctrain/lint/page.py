"""The list of rules as a table of the documentation, and one rule in words."""

from __future__ import annotations

import textwrap
from itertools import groupby

import hpctrain.lint.check  # fills RULES
from hpctrain.lint.rule import RULES, Rule

assert hpctrain.lint.check is not None


def explain(rule: Rule) -> str:
    """Return what a rule finds, why that is a trap, and what to write instead.

    Parameters
    ----------
    rule : Rule
    """
    parts = [("why", rule.why), ("fix", rule.fix), ("off", f"# hpctrain-lint: disable={rule.name}")]
    rows = [f"{rule.name} ({rule.level}): {rule.what}"]
    for word, text in parts:
        rows += textwrap.wrap(
            text, 110, initial_indent=f"  {word}: ", subsequent_indent="       ", break_on_hyphens=False
        )
    return "\n".join(rows)


def rules_page() -> str:
    """Return all rules as Markdown, by theme: the part of docs/lint.md that is made from them."""
    rows = []
    for group, rules in groupby(RULES.values(), key=lambda rule: rule.group):
        rows += [f"### {group}", ""]
        for rule in rules:
            rows += [f"**`{rule.name}`** ({rule.level}): {rule.what}. {rule.why} *Fix:* {rule.fix}", ""]
    return "\n".join(rows)
