"""The differences of two runs as text of at most 80 columns, or as plain values."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpctrain.metrics.read import read_history
from hpctrain.report.differences.curves import VISIBLE, Ends, Parting, ends_of, parting_of
from hpctrain.report.differences.origins import (
    DataFile,
    Difference,
    compare_code,
    compare_data,
    compare_machines,
    differing,
    plain_profiles,
    read_provenance,
)
from hpctrain.rundir import RunDir

WIDTH = 80
_MOST_LINES = 40
"""Largest number of lines of a diff of uncommitted changes to print."""


@dataclass(frozen=True)
class Differences:
    """All that differs between two runs.

    Parameters
    ----------
    runs : tuple of RunDir
    profile : list of Difference
    num_keys : int
        Number of keys of the first profile.
    data : list of DataFile
    code : list of Difference
    changes : list of str
        Unified diff of the uncommitted changes.
    machines : list of Difference
    parting : Parting
    ends : list of Ends
    without_origin : list of str
        The ``provenance.json`` that are missing or may not be read.
    """

    runs: tuple[RunDir, RunDir]
    profile: list[Difference]
    num_keys: int
    data: list[DataFile]
    code: list[Difference]
    changes: list[str]
    machines: list[Difference]
    parting: Parting
    ends: list[Ends]
    without_origin: list[str]


def compare_runs(before: RunDir, after: RunDir) -> Differences:
    """Compare two runs.

    Raises
    ------
    ProfileError
        The profile of one of them cannot be read.
    """
    profiles = plain_profiles(before, after)
    origins = read_provenance(before), read_provenance(after)
    histories = read_history(before), read_history(after)
    code, changes = compare_code(*origins)
    return Differences(
        (before, after),
        differing(*profiles),
        len(differing(profiles[0], {})),
        compare_data(*(origin.get("data") or [] for origin in origins)),
        code,
        changes,
        compare_machines((origins[0], histories[0]), (origins[1], histories[1])),
        parting_of(before, after),
        ends_of(*histories),
        [str(run.provenance) for run, origin in zip((before, after), origins, strict=True) if not origin],
    )


def as_values(found: Differences) -> dict[str, Any]:
    """Return the differences as plain values, for JSON."""
    return {
        "runs": [str(run.path) for run in found.runs],
        "profile": [asdict(one) for one in found.profile],
        "data": [asdict(one) for one in found.data],
        "code": [asdict(one) for one in found.code],
        "uncommitted_changes": found.changes,
        "without_provenance": found.without_origin,
        "machines": [asdict(one) for one in found.machines],
        "loss": asdict(found.parting),
        "ends": [{**asdict(one), "change": one.change} for one in found.ends],
    }


def describe_differences(found: Differences, with_code: bool = False) -> str:
    """Return the differences as text.

    Parameters
    ----------
    found : Differences
    with_code : bool
        Show the whole diff of the uncommitted changes, of any width.
    """
    lines = [f"first   {found.runs[0].path}", f"second  {found.runs[1].path}"]
    lines += ["", _profile_line(found), *pairs(found.profile)]
    lines += ["", *_data_lines(found.data)]
    lines += ["", _code_line(found), *pairs(found.code)]
    if found.changes:
        limit = None if with_code else _MOST_LINES
        lines += [f"  uncommitted changes differ ({len(found.changes)} lines of diff):"]
        lines += [f"    {line if with_code else line[: WIDTH - 4]}" for line in found.changes[:limit]]
        if limit is not None and len(found.changes) > limit:
            lines += [f"    and {len(found.changes) - limit} more lines (--code shows them)"]
    lines += ["", "machine: " + ("differs" if found.machines else "the same"), *pairs(found.machines)]
    lines += ["", *_curve_lines(found.parting), *_end_lines(found.ends)]
    return "\n".join(lines)


def _code_line(found: Differences) -> str:
    if found.without_origin:
        return f"code: not on record: {' and '.join(found.without_origin)} cannot be read"
    return "code: " + ("differs" if found.code or found.changes else "the same")


def _profile_line(found: Differences) -> str:
    differ = "differs" if len(found.profile) == 1 else "differ"
    return f"profile: {_count(len(found.profile), 'key')} of {found.num_keys} {differ}"


def _count(number: int, word: str) -> str:
    return f"{number or 'no'} {word}{'' if number == 1 else 's'}"


def pairs(found: Sequence[Difference]) -> Iterator[str]:
    """Yield one line per difference, or three where it would be wider than 80 columns."""
    width = min(36, max((len(one.name) for one in found), default=0))
    for one in found:
        before, after = _shown(one.before), _shown(one.after)
        line = f"  {one.name:<{width}}  {before} → {after}"
        if len(line) <= WIDTH:
            yield line
            continue
        yield f"  {one.name}"
        for sign, text in (("-", before), ("+", after)):
            yield from textwrap.wrap(text, WIDTH - 6, initial_indent=f"    {sign} ", subsequent_indent="      ")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _data_lines(found: Sequence[DataFile]) -> Iterator[str]:
    same = sum(one.state == "the same" for one in found)
    if not found:
        yield "data: no files are on record"
    elif same == len(found):
        yield f"data: the same ({_count(same, 'file')})"
    else:
        yield f"data: {same} of {_count(len(found), 'file')} the same"
    for one in found:
        if one.state != "the same":
            why = f" ({', '.join(one.why)})" if one.why else ""
            yield from textwrap.wrap(f"{one.state}{why}: {one.path}", WIDTH - 2, initial_indent="  ",
                                     subsequent_indent="    ", break_on_hyphens=False)  # fmt: skip


def _curve_lines(found: Parting) -> Iterator[str]:
    if not found.num_common:
        yield "loss: the runs have no step in common"
        return
    if found.first_step is None or found.losses is None:
        yield f"loss: equal, bit by bit, at all {found.num_common} common steps"
        return
    begins = "loss: differs from the first common step on" if found.last_equal is None else (
        f"loss: equal, bit by bit, up to step {found.last_equal:,}"
    )  # fmt: skip
    yield begins
    yield f"  step {found.first_step:,}: {found.losses[0]!r} → {found.losses[1]!r}"
    if found.visible_step is None:
        yield f"  never by more than {100 * VISIBLE:.0f} %"
    else:
        yield f"  by more than {100 * VISIBLE:.0f} % from step {found.visible_step:,} on"


def _end_lines(found: Sequence[Ends]) -> Iterator[str]:
    if not found:
        return
    width = min(WIDTH - 42, max(len(one.name) for one in found))
    yield f"  {'':<{width}}  {'first':>11}  {'second':>11}  {'change':>11}"
    for one in found:
        cells = (
            f"{'-' if value is None else format(value, '.5g'):>11}" for value in (one.before, one.after, one.change)
        )
        yield f"  {one.name[:width]:<{width}}  {'  '.join(cells)}"
