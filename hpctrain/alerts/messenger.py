"""Tell an alert to the command and the webhook of the site, from a thread of its own.

Whatever fails here costs a line in the log, once, and never the run. Nothing of an alert becomes a word of a shell: the
command is a list of arguments, and gets the alert as JSON and in variables.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any

from hpctrain.credentials.hide import hide_known
from hpctrain.profile.sections.alerts import AlertsSection
from hpctrain.terminal import printable

PAUSES_S = (1.0, 5.0)
"""Pauses before the second and the third try [s]."""
_MOST_WAITING = 64
_LONGEST_ERROR = 200


class NotTakenError(Exception):
    """A message was not taken; `again` says whether another try may help."""

    def __init__(self, text: str, again: bool = True) -> None:
        super().__init__(text)
        self.again = again


class Messenger:
    """Pass messages on, one after the other.

    Parameters
    ----------
    limits : AlertsSection
        Its command, the variable with the address of its webhook, and the longest time of each.
    environment : mapping of str to str
    pauses_s : tuple of float
        Pauses before further tries [s].
    say : callable
        Is called with one line for the log.
    """

    def __init__(
        self,
        limits: AlertsSection,
        environment: Mapping[str, str] = os.environ,
        pauses_s: tuple[float, ...] = PAUSES_S,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._timeout_s, self._pauses_s = limits.timeout_s, pauses_s
        self._say = say or _to_stderr
        self._waiting: queue.Queue[Mapping[str, Any] | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._ends = threading.Event()
        self._failed: set[str] = set()
        url = environment.get(limits.webhook_variable or "", "").strip()
        self._ways: dict[str, Callable[[Mapping[str, Any]], None]] = {}
        if limits.command:
            command = list(limits.command)
            self._ways["the command of alerts"] = lambda message: run_command(command, message, self._timeout_s)
        if url:
            self._ways[f"the webhook of ${limits.webhook_variable}"] = lambda message: post(
                url, message, self._timeout_s
            )

    @property
    def has_hearers(self) -> bool:
        """Whether there is a command or a webhook."""
        return bool(self._ways)

    def tell(self, message: Mapping[str, Any]) -> None:
        """Take a message and return at once; a message too many is dropped."""
        if not self._ways:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="alert messages", daemon=True)
            self._thread.start()
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(message)

    def close(self, longest_s: float = 10.0) -> None:
        """Wait until all messages have been sent, for a bounded time; a failed one gets no further try."""
        if self._thread is None:
            return
        with contextlib.suppress(queue.Full):
            self._waiting.put_nowait(None)
        self._ends.set()
        self._thread.join(longest_s)

    def _work(self) -> None:
        while (message := self._waiting.get()) is not None:
            for name, way in self._ways.items():
                self._try(name, way, message)

    def _try(self, name: str, way: Callable[[Mapping[str, Any]], None], message: Mapping[str, Any]) -> None:
        for pause_s in (*self._pauses_s, None):
            try:
                return way(message)
            except NotTakenError as error:
                if error.again and pause_s is not None and not self._ends.wait(pause_s):
                    continue
                why = str(error)
            except Exception as error:  # no error of a hook may end the thread, or reach the run
                why = type(error).__name__
            if name not in self._failed:
                self._failed.add(name)
                self._say(f"{name} did not take a message ({why}); the run goes on, and this is said only once")
            return None


def run_command(command: list[str], message: Mapping[str, Any], timeout_s: float) -> None:
    """Run a command with a message as JSON on its standard input, and its texts in variables.

    Raises
    ------
    NotTakenError
        It cannot be started, takes too long, or ends with another code than 0.
    """
    variables = {f"HPCTRAIN_ALERT_{name.upper()}": str(value) for name, value in message.items() if value is not None}
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env={**os.environ, **variables},
            start_new_session=True,  # Ctrl-C is for the trainer, and the whole group can be killed
        )
    except OSError as error:
        raise NotTakenError(f"{command[0]}: {error.strerror}", again=False) from error
    try:
        _, said = process.communicate(json.dumps(message).encode() + b"\n", timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # it cannot have ended: nobody has waited for it
        process.communicate()
        raise NotTakenError(f"no end within {timeout_s:g} s") from None
    if process.returncode != 0:
        words = said.decode("utf-8", "replace").strip().splitlines()
        reason = f": {hide_known(words[-1])[:_LONGEST_ERROR]}" if words else ""
        raise NotTakenError(f"exit code {process.returncode}{reason}")


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follow no redirect: it would turn the POST into a GET, or take the alert to somebody else."""

    def redirect_request(self, *_arguments: Any) -> None:
        return None


def post(url: str, message: Mapping[str, Any], timeout_s: float) -> None:
    """Post a message as JSON; its ``text`` is what Slack and its kin show.

    Raises
    ------
    NotTakenError
        There is no answer in time, or one that is no success. The error never shows the address.
    """
    if not url.startswith(("http://", "https://")):
        raise NotTakenError("it is no address that begins with http:// or https://", again=False)
    request = urllib.request.Request(
        url, json.dumps(message).encode(), {"Content-Type": "application/json", "User-Agent": "hpctrain"}
    )
    try:
        with urllib.request.build_opener(_NoRedirect).open(request, timeout=timeout_s) as answer:
            answer.read(1024)
    except urllib.error.HTTPError as error:
        raise NotTakenError(f"HTTP {error.code}", again=error.code == 429 or error.code >= 500) from None
    except urllib.error.URLError as error:
        raise NotTakenError(f"no connection: {_reason(error.reason)}") from None
    except (OSError, http.client.HTTPException) as error:
        raise NotTakenError(_reason(error)) from None
    except ValueError:
        raise NotTakenError("it is no valid address", again=False) from None


def _reason(error: object) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (error.strerror or type(error).__name__) if isinstance(error, OSError) else type(error).__name__


def _to_stderr(text: str) -> None:
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  hpctrain: {printable(text)}", file=sys.stderr, flush=True)
