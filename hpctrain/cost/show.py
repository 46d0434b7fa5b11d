"""The cost of runs as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.cost.money import amount_text
from hpctrain.cost.spent import AttemptCost, RunCost
from hpctrain.cost.spot import Spot, spot_against_others
from hpctrain.cost.sums import Cost
from hpctrain.monitor.sizing import Size, right_size
from hpctrain.words import format_short_duration

_HEADS = ("attempt", "ended", "time", "node h", "GPU h", "CPU h", "kWh", "CO2 kg", "money", "lost", "idle")


def lines_of_run(found: RunCost) -> Iterator[str]:
    """Yield the table of the attempts of a run, its sum, and what follows from it."""
    rows = [_HEADS, *(_attempt_row(each) for each in found.attempts)]
    rows.append(("total", "", *_cells(found.total)))
    yield from aligned(rows)
    yield ""
    yield from sentences(found.total)
    if dates := sorted({each.price.date for each in found.attempts if each.price}):
        yield f"prices of {', '.join(dates)} ({found.site.source if found.site else ''})"
    yield from (f"note: {text}" for text in found.notes)
    yield from (str(advice) for advice in (size_of(found), spot_of(found)) if advice)


def sentences(cost: Cost) -> Iterator[str]:
    """Yield what was lost and what was idle, in words."""
    if cost.lost_s >= 1:
        hours = f"{cost.lost_gpu_h:.3g} GPU h" if cost.gpu_h else f"{cost.lost_cpu_h:.3g} CPU h"
        price = f", {_money(cost.lost_money)}" if cost.lost_money else ""
        share = cost.lost_s / cost.seconds if cost.seconds else 0.0
        yield (
            f"lost to faults: {format_short_duration(cost.lost_s)} ({share:.0%}; {hours}{price}): "
            f"{format_short_duration(cost.repeated_s)} of steps that were repeated, "
            f"{format_short_duration(cost.restart_s)} until the first step of later attempts"
        )
    if cost.idle_gpu_h is not None and cost.utilisation is not None:
        yield (
            f"idle GPUs: {cost.idle_gpu_h:.3g} of {cost.watched_gpu_h:.3g} GPU h that were measured "
            f"(utilisation {cost.utilisation:.0%})"
        )
    if cost.estimated_kwh:
        yield (
            f"energy: {cost.estimated_kwh:.3g} kWh are an estimate (~): no sensor was read, so that GPUs and cores "
            "count with their largest power"
        )


def size_of(found: RunCost) -> Size | None:
    """Return the advice about the number of GPUs, from the newest attempt whose utilisation was measured."""
    for attempt in reversed(found.attempts):
        if attempt.cost.utilisation is not None:
            return right_size(round(attempt.machine.gpus), attempt.cost.utilisation)
    return None


def spot_of(found: RunCost) -> Spot | None:
    """Return what spot machines would mean for a run, from its own times; None if too little is known."""
    if not found.attempts or found.attempts[-1].price is None or found.start_s is None:
        return None
    last, whole = found.attempts[-1], found.total
    if last.price is None:
        return None
    work_s = max(0.0, whole.seconds - whole.lost_s)
    interval_s = work_s if found.save_interval_s is None else found.save_interval_s
    save_s = found.save_s or 0.0
    return spot_against_others(last.price.entry, last.machine, work_s, found.start_s, save_s, interval_s)


def lines_of_many(named: Mapping[str, Cost], what: str) -> Iterator[str]:
    """Yield one line for each run, and their sum."""
    heads = (what, "attempts", *_HEADS[2:])
    rows: list[tuple[str, ...]] = [heads]
    rows += [(name, str(cost.attempts), *_cells(cost)) for name, cost in named.items()]
    whole = sum(named.values(), Cost())
    rows.append(("total", str(whole.attempts), *_cells(whole)))
    yield from aligned(rows)
    yield ""
    yield from sentences(whole)


def run_as_json(found: RunCost) -> dict[str, Any]:
    """Return the cost of a run as plain values."""
    size, spot = size_of(found), spot_of(found)
    return {
        "run": str(found.run.path),
        "total": found.total.to_json(),
        "attempts": [
            {
                "attempt": each.number,
                "started_at": each.started_at,
                "outcome": each.outcome,
                "machine": vars(each.machine),
                "hourly_price": None if each.price is None else each.price.amount,
                "prices_of": None if each.price is None else each.price.date,
                **each.cost.to_json(),
            }
            for each in found.attempts
        ],
        "right_size": None if size is None else vars(size),
        "spot": None if spot is None else {**vars(spot), "cost_ratio": spot.cost_ratio},
        "notes": found.notes,
    }


def _attempt_row(each: AttemptCost) -> tuple[str, ...]:
    return (str(each.number), each.outcome, *_cells(each.cost))


def _cells(cost: Cost) -> tuple[str, ...]:
    energy = f"{'~' if cost.estimated_kwh else ''}{cost.kwh:.3g}" if cost.kwh else "-"
    return (
        format_short_duration(cost.seconds),
        f"{cost.node_h:.3g}",
        f"{cost.gpu_h:.3g}" if cost.gpu_h else "-",
        f"{cost.cpu_h:.3g}",
        energy,
        "-" if cost.co2_kg is None else f"{cost.co2_kg:.3g}",
        _money(cost.money) or "-",
        format_short_duration(cost.lost_s) if cost.lost_s >= 1 else "-",
        "-" if cost.utilisation is None else f"{1 - cost.utilisation:.0%}",
    )


def _money(money: Mapping[str, float]) -> str:
    return " + ".join(amount_text(amount, currency) for currency, amount in money.items())


def aligned(rows: list[tuple[str, ...]]) -> Iterator[str]:
    """Yield the rows of a table, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))]
        yield "  ".join(cells).rstrip()
