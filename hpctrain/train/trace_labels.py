"""Names of the parts of a step, which a trace of the profiler shows; they cost nothing while nothing is recorded."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

Label = Callable[[str], contextlib.AbstractContextManager[Any]]
"""Returns a context that names what happens in it."""

_NOTHING = contextlib.nullcontext()


def no_label(part: str) -> contextlib.AbstractContextManager[Any]:
    """Return a context that does nothing."""
    return _NOTHING
