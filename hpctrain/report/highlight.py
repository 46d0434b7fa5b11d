"""Colour YAML and shell text. The functions escape everything, so that no text of a profile can become markup."""

from __future__ import annotations

import re
from html import escape

_YAML_LINE = re.compile(r"^(?P<lead>\s*(?:- )*)(?P<key>[\w.-]+)(?P<colon>:)(?P<value>(?:\s.*)?)$")
_COMMENT = re.compile(r"(^|\s)(#.*)$")
_SCALAR = re.compile(r"^(\s*)([-+]?(?:\d[\d_]*\.?\d*(?:[eE][-+]?\d+)?|\.inf)|true|false|null)(\s*)$")


def highlight_yaml(text: str) -> str:
    """Return YAML as escaped HTML with keys, numbers and comments in spans."""
    return "\n".join(_yaml_line(line) for line in text.rstrip("\n").split("\n"))


def _yaml_line(line: str) -> str:
    if line.lstrip().startswith("#"):
        return _span("comment", line)
    match = _YAML_LINE.match(line)
    if not match:
        return escape(line)
    return f"{escape(match['lead'])}{_span('name', match['key'])}:{_yaml_value(match['value'])}"


def _yaml_value(value: str) -> str:
    comment = None if value.strip()[:1] in ("'", '"') else _COMMENT.search(value)
    tail = ""
    if comment:
        value, tail = value[: comment.start(2)], _span("comment", comment[2])
    scalar = _SCALAR.match(value)
    if scalar:
        return f"{scalar[1]}{_span('number', scalar[2])}{scalar[3]}{tail}"
    return escape(value) + tail


def highlight_shell(text: str) -> str:
    """Return a batch script as escaped HTML with ``#SBATCH`` lines and comments in spans."""
    lines = []
    for line in text.rstrip("\n").split("\n"):
        if line.startswith("#SBATCH"):
            lines.append(_span("name", line))
        elif line.lstrip().startswith("#"):
            lines.append(_span("comment", line))
        else:
            lines.append(escape(line))
    return "\n".join(lines)


def _span(css: str, text: str) -> str:
    return f'<span class="{css}">{escape(text)}</span>'
