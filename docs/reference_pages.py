"""The pages of reference that are made from the code: commands, exit codes, events.

    python docs/reference_pages.py     write the pages; ``make docs`` does it too

A test compares the pages with what the code says now, so a new option, error or event needs a new page.
``docs/profile.md`` is made by ``hpctrain schema --markdown``.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import itertools
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS.parent))

from hpctrain import errors, records  # noqa: E402
from hpctrain.cli import COMMANDS, command_parser  # noqa: E402
from hpctrain.metrics.events import EVENTS, Event, event  # noqa: E402

MADE = "This page is made from the code by `python docs/reference_pages.py`."
TYPES = {
    records.is_count: "whole number, not negative",
    records.is_whole: "whole number",
    records.is_number: "number",
    records.is_text: "text",
    records.is_texts: "list of texts",
    records.is_text_or_texts: "text, or list of texts",
    records.is_record: "mapping",
    records.is_list: "list",
}
"""What the function that checks a field of an event stands for."""


def _cell(text: str) -> str:
    """Return a text that fits into a cell of a table, with back-ticks as Markdown has them."""
    return " ".join(text.replace("``", "`").replace("|", "\\|").replace("<", "\\<").replace("*", "\\*").split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    lines = [head, ("---",) * len(head), *rows]
    return ["|" + "|".join(f" {cell} " if cell != "---" else cell for cell in line) + "|" for line in lines]


# ── Commands ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _values(action: argparse.Action) -> str:
    """Return what stands behind an option, as help shows it: ``FILE``, ``N [N ...]``, ``fp32|fp16`` or nothing."""
    if action.nargs == 0:
        return ""
    choices = "|".join(map(str, action.choices or ()))
    name = action.metavar or choices or action.dest.upper()
    name = " ".join(name) if isinstance(name, tuple) else name
    return {"+": f"{name} ...", "*": f"[{name} ...]", "?": f"[{name}]", "...": name}.get(str(action.nargs), name)


def _argument_row(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[str, str]:
    shown = ", ".join(f"`{option}`" for option in action.option_strings)
    values = _values(action).replace("|", "\\|")
    text = parser._get_formatter()._expand_help(action) if action.help else ""
    return " ".join(filter(None, (shown, values and f"`{values}`"))), _cell(text)


def _shown_actions(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    hidden = (argparse._HelpAction, argparse._SubParsersAction)
    return [one for one in parser._actions if not isinstance(one, hidden) and one.help != argparse.SUPPRESS]


def _parsers(title: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """Yield a parser and those of its actions (``hpctrain registry add``), each with its title."""
    yield title, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                yield from _parsers(f"{title} {name}", inner)


def _description(parser: argparse.ArgumentParser) -> list[str]:
    """Return the help of a command: as it is where its lines are laid out, so that the columns stay."""
    text = inspect.cleandoc(parser.description or "").replace("``", "`")
    return ["```text", *text.splitlines(), "```", ""] if text else []


def commands_page() -> str:
    """Return the page of all commands, with their arguments as the parsers have them."""
    lines = ["# Commands", "", "`hpctrain COMMAND --help` shows the same. " + MADE, ""]
    lines += _table(("command", "what it does"), [(f"[`{name}`](#hpctrain-{name})", t) for name, t in COMMANDS.items()])
    for command in COMMANDS:
        for title, parser in _parsers(f"hpctrain {command}", command_parser(command)):
            level = "##" if title == f"hpctrain {command}" else "###"
            lines += ["", f"{level} {title}", "", *_description(parser)]
            rows = [_argument_row(parser, action) for action in _shown_actions(parser)]
            lines += _table(("argument", "what it is"), rows) if rows else []
            while not lines[-1]:
                lines.pop()
    return "\n".join(lines) + "\n"


# ── Exit codes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _constants() -> Iterator[tuple[int, str, str]]:
    """Yield number, name and text of the exit codes that are constants of ``hpctrain/errors.py``."""
    body = ast.parse(inspect.getsource(errors)).body
    for item, text in itertools.pairwise(body):
        if isinstance(item, ast.Assign) and isinstance(item.targets[0], ast.Name):
            name = item.targets[0].id
            assert isinstance(text, ast.Expr), f"hpctrain/errors.py: {name} has no text under it"
            assert isinstance(text.value, ast.Constant)
            yield getattr(errors, name), name, inspect.cleandoc(str(text.value.value))


def exit_codes_page() -> str:
    """Return the page of exit codes: what ends with each, and the error of Python behind it."""
    rows = list(_constants())
    for name, value in vars(errors).items():
        if isinstance(value, type) and hasattr(value, "exit_code"):
            rows.append((value.exit_code, name, inspect.cleandoc(value.__doc__ or "").split("\n\n")[0]))
    shown = [(str(code), f"`{name}`", _cell(text)) for code, name, text in sorted(rows, key=lambda row: row[0])]
    lines = ["# Exit codes", "", "Every command and every rank of a job ends with one of these numbers. " + MADE, ""]
    lines += _table(("code", "name in `hpctrain.errors`", "what it means"), shown)
    lines += ["", "What follows in a job, such as another attempt, is in [Signals, faults, requeue](requeue.md)."]
    return "\n".join(lines) + "\n"


# ── Events ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _type(check: Callable[..., bool], *is_open: object) -> str:
    text = TYPES.get(check, "mapping" if check.__name__ != "_are_records" else "list of mappings")
    return f"{text}; all entries that no other field names" if is_open else text


def _event_lines(one: type[Event]) -> list[str]:
    text = re.sub(r":\w+:`~?(?:[\w.]*\.)?(\w+)`", r"`\1`", inspect.cleandoc(one.__doc__ or "")).replace("``", "`")
    lines = ["", f"## {one.name}", "", *text.splitlines(), ""]
    fields = event._metadata(one)
    optional = {item.name for item in event._own_fields(one) if item.default is None}
    rows = [
        (f"`{key}`", _type(*check) + ("; left out if unknown" if key in optional else ""))
        for key, check in fields.items()
    ]
    return lines + (_table(("entry", "what it holds"), rows) if rows else [])


def events_page() -> str:
    """Return the page of the events that ``metrics.jsonl`` can hold, with their entries."""
    lines = [
        "# Events",
        "",
        "A record of `metrics.jsonl` whose `kind` is `event` has one of these names in `event`, beside `step`,",
    ]
    lines += ["`time` [s since 1970] and `attempt`. `hpctrain logs RUN` shows them in words. " + MADE]
    for one in EVENTS.values():
        lines += _event_lines(one)
    return "\n".join(lines).replace("\n\n\n", "\n\n").rstrip() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "commands.md": commands_page,
    "exit-codes.md": exit_codes_page,
    "events.md": events_page,
}
"""File of ``docs/`` to the function that returns its text."""


def main() -> None:
    """Write all pages."""
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
