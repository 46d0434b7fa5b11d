"""A validation of data as a table for the terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from hpctrain.expectations.check import Check
from hpctrain.expectations.validate import Validated

MOST_LINES = 40
_WIDTH = 60


def lines_of(found: Validated) -> Iterator[str]:
    """Yield the lines of a table of all checks that failed, the worst first, and a summary."""
    files = [str(source.path) for source in found.looked.sources]
    what = files[0] if len(files) == 1 else f"{len(files):,} files, {files[0]} ..."
    failed = found.failed
    compared = f", compared with {found.compared_with}" if found.compared_with else ""
    yield f"{what}: {found.looked.num_rows:,} objects against {found.against}{compared}"
    if not failed:
        yield f"good: {len(found.checks):,} checks, none failed"
        return
    yield f"NOT as expected: {len(failed):,} of {len(found.checks):,} checks failed"
    yield ""
    heads = ("column", "what", "found", "allowed", "rows")
    rows = [_cells(check) for check in failed[:MOST_LINES]]
    widths = [max(len(heads[place]), *(len(line) for row in rows for line in row[place])) for place in range(5)]
    yield _joined(heads, widths)
    for check, row in zip(failed, rows, strict=False):
        for line in range(max(map(len, row))):
            yield _joined([cell[line] if line < len(cell) else "" for cell in row], widths)
        yield from _where(check, files, widths[0])
    if len(failed) > MOST_LINES:
        yield f"... and {len(failed) - MOST_LINES:,} more; --json lists all"


def _cells(check: Check) -> list[list[str]]:
    number = check.places.number if check.places is not None else 0
    return [
        [check.column or "-"],
        [check.what],
        textwrap.wrap(check.found, _WIDTH) or [""],
        textwrap.wrap(check.allowed, 30) or [""],
        [f"{number:,}" if number else ""],
    ]


def _joined(cells: object, widths: list[int]) -> str:
    texts = list(cells)  # type: ignore[call-overload]
    aligned = [f"{text:<{width}}" for text, width in zip(texts[:4], widths[:4], strict=True)]
    return "  ".join([*aligned, f"{texts[4]:>{widths[4]}}"]).rstrip()


def _where(check: Check, files: list[str], indent: int) -> Iterator[str]:
    """Yield which files and rows a check is about."""
    places = check.places
    if places is None or not places.number:
        return
    if len(files) > 1:
        some = [f"{files[file]} ({number:,})" for file, number in places.files.most_common(3)]
        more = f" and {len(places.files) - 3:,} more" if len(places.files) > 3 else ""
        yield f"{' ' * indent}  in {', '.join(some)}{more}"
    if places.first:
        rows = [
            f"{row:,}{f' of {files[file]}' if len(files) > 1 else ''}{f': {text}' if text else ''}"
            for file, row, text in places.first
        ]
        yield f"{' ' * indent}  first rows {'; '.join(rows)}"
