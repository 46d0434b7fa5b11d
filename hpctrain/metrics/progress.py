"""Describe the events of a record for the report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctrain.metrics.events import read_event
from hpctrain.words import Words, format_bytes, format_count, format_duration, format_number

__all__ = ("describe_event", "format_bytes", "format_count", "format_duration", "format_number")


def describe_event(record: Mapping[str, Any], words: Words = Words()) -> str:  # noqa: B008 (never changes)
    """Return the event of a record in words."""
    return read_event(record).describe(words)
