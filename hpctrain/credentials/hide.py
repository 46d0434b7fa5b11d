"""Replace passwords, tokens and keys in a text by markers: in diffs, command lines, errors and reports."""

from __future__ import annotations

import os
import re
import sys
import threading
import traceback
from collections.abc import Iterable, Mapping
from functools import partial
from types import TracebackType
from typing import Any

from hpctrain.credentials.known import known_secrets, written_forms
from hpctrain.credentials.patterns import (
    ASSIGNED,
    BARE_WANDB_KEY,
    FORMS,
    MAY_ASSIGN,
    NAMED_WANDB_KEY,
    Form,
    is_placeholder,
)
from hpctrain.terminal import printable


def hide_secrets(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text in which a marker replaces every credential and names its kind.

    In doubt the function hides a text, because other people read run directories and reports.

    Parameters
    ----------
    text : str
        Anything: a diff, a command line, a configuration file.
    environment : mapping of str to str
        The secrets that it holds are hidden, too, whatever they look like.
    """
    text = _hide_forms(_hide_known(text, known_secrets(environment)), (*FORMS, NAMED_WANDB_KEY, BARE_WANDB_KEY))
    return "".join(
        ASSIGNED.sub(_hide_assigned, line) if MAY_ASSIGN.search(line) else line
        for line in text.splitlines(keepends=True)
    )


def hide_known(text: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return a text in which a marker replaces the secrets of the environment and passwords in URLs, and nothing else.

    It is for messages: a number after the word token is of use in them.

    Parameters
    ----------
    text : str
    environment : mapping of str to str
    """
    return _hide_forms(_hide_known(text, known_secrets(environment)), FORMS)


def hide_secrets_in(value: Any) -> Any:
    """Return JSON values with :func:`hide_secrets` applied to every text in them."""
    if isinstance(value, str):
        return hide_secrets(value)
    if isinstance(value, list):
        return [hide_secrets_in(item) for item in value]
    if isinstance(value, dict):
        return {name: hide_secrets_in(item) for name, item in value.items()}
    return value


def own_command() -> list[str]:
    """Return the command line of this process as files may keep it: without credentials."""
    return [hide_secrets(argument) for argument in sys.argv]


def error_line(error: BaseException) -> str:
    """Return an error as a log shows it: without credentials, and with control characters written out."""
    return printable(hide_known(str(error)))


def print_error(kind: type[BaseException], error: BaseException | None, trace: TracebackType | None) -> None:
    """Print an exception with its traceback and without credentials; fit for ``sys.excepthook``."""
    sys.stderr.write(hide_known("".join(traceback.format_exception(kind, error, trace))))


def hide_in_tracebacks() -> None:
    """Let Python print exceptions that nobody catches, in all threads, without credentials: a log keeps them."""
    sys.excepthook = print_error
    threading.excepthook = lambda uncaught: print_error(uncaught.exc_type, uncaught.exc_value, uncaught.exc_traceback)


def _hide_known(text: str, known: Mapping[str, str]) -> str:
    for secret, name in known.items():
        for written in written_forms(secret):
            text = text.replace(written, f"[hidden: ${name}]")
    return text


def _hide_forms(text: str, forms: Iterable[Form]) -> str:
    small = text.lower()
    for form in forms:
        if any(hint in small for hint in form.hints):
            text = form.pattern.sub(partial(_replaced, kind=form.kind), text)
    return text


def _replaced(found: re.Match[str], kind: str) -> str:
    return f"{found.groupdict().get('before') or ''}{_marker(kind)}"


def _marker(kind: str) -> str:
    return f"[hidden: {kind}]"


def _hide_assigned(found: re.Match[str]) -> str:
    quote, value = found["quote"] or "", found["quoted"] or found["bare"]
    if is_placeholder(value):
        return found[0]
    return f"{found['before']}{quote}{_marker('a password or token')}{quote}"
