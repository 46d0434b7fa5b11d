"""One self-contained HTML file: styles, figures, and the small script that shows values under the pointer."""

from __future__ import annotations

import base64
import hashlib
import re
import string
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path

from hpctrain import __version__
from hpctrain.errors import Problem, ProfileError
from hpctrain.rundir import write_atomic


@dataclass(frozen=True)
class Head:
    """What a page begins with. All texts are HTML.

    Parameters
    ----------
    kind : str
        What the page is about, above the name.
    name : str
    place : str
        Where it comes from, below the name.
    state : str
        A label beside the name.
    description, sentence : str
        Paragraphs; `sentence` is the larger one.
    """

    kind: str
    name: str
    place: str
    sentence: str
    state: str = ""
    description: str = ""


def render_document(
    head: Head,
    sections: Sequence[tuple[str, str, str]],
    footer: str,
    numbers: str = "",
    warnings: str = "",
    style: str = "",
    script: str = "",
) -> str:
    """Return a page as one HTML document.

    A content security policy forbids the browser to load anything else, whatever text the page contains. The browser
    opens other pages only when somebody clicks on a link.

    Parameters
    ----------
    head : Head
    sections : sequence of (str, str, str)
        Key, title and HTML of each section; one without HTML is left out. Keys and titles are escaped here.
    footer : str
        Text after the version of hpctrain; escaped here.
    numbers, warnings : str
        Key numbers and an aside, as HTML.
    style, script : str
        CSS and JavaScript of this page, after those of all pages.
    """
    template = files("hpctrain.report").joinpath("page.html").read_text(encoding="utf-8")
    common = files("hpctrain.drawing").joinpath("style.css").read_text(encoding="utf-8")
    scripts = [re.search(r"<script>(.*)</script>", template, re.DOTALL)[1], *([script] if script else [])]
    shown = [(escape(key), escape(title), body) for key, title, body in sections if body]
    return string.Template(template).substitute(
        script_digests=" ".join(map(_digest, scripts)),
        style=f"{common}\n{style}",
        script=f"<script>{script}</script>\n" if script else "",
        kind=head.kind,
        name=head.name,
        place=head.place,
        state=head.state,
        description=head.description,
        sentence=head.sentence,
        navigation="".join(f'<a href="#{key}">{title}</a>' for key, title, _ in shown),
        warnings=warnings,
        numbers=numbers,
        sections="".join(f'<section id="{key}"><h2>{title}</h2>{body}</section>' for key, title, body in shown),
        footer=escape(f"hpctrain {__version__} · {footer}"),
    )


def _digest(script: str) -> str:
    """Return a script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def moment(seconds: float) -> str:
    """Return a time [s since 1970] in the time zone of this machine."""
    return time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(seconds)).strip()


def write_document(path: Path, text: str, option: str = "--out", mode: int = 0o666) -> Path:
    """Write a page or a drawing, whole or not at all; return its absolute path.

    Parameters
    ----------
    path : Path
    text : str
    option : str
        The option with which a user names the file, for messages.
    mode : int
        Permissions of the file, of which the umask takes some away.

    Raises
    ------
    ProfileError
        The file cannot be written, for example in another user's folder.
    """
    path = path.absolute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, text, mode=mode)
    except OSError as error:
        reason = f"cannot be written: {error.strerror}; name a file in a folder of yours with {option} FILE"
        raise ProfileError(str(path), [Problem(option, reason)]) from error
    return path
