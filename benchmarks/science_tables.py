"""What all tasks of ``benchmarks/science.py`` share: how they are described, and how results are printed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctrain.rundir import RunDir

Train = Callable[..., RunDir]


@dataclass(frozen=True)
class Task:
    """Something to judge: the files or folders it needs, and the function that measures and prints."""

    files: tuple[str, ...]
    measure: Callable[[Path, Path, int, Train], dict[str, Any]]


def print_table(found: Mapping[str, Mapping[str, tuple[float, float, float]]], digits: Mapping[str, int]) -> None:
    """Print scores with their intervals, a line for each method, with this number of digits."""
    print("| method | " + " | ".join(digits) + " |")
    print("|---|" + "---|" * len(digits))
    for name, scores in found.items():
        cells = [
            f"{scores[key][0]:.{digit}f} ({scores[key][1]:.{digit}f} to {scores[key][2]:.{digit}f})"
            for key, digit in digits.items()
        ]
        print(f"| {name} | " + " | ".join(cells) + " |")


def print_bars(values: Mapping[str, float], bars: Mapping[str, float], method: str) -> None:
    """Print for each score whether it is at most the bar; names with a minus are larger-is-better scores."""
    for name, value in values.items():
        sign = -1 if name.startswith("-") else 1
        verdict = "met" if value <= bars[name] else "NOT MET"
        print(f"{name.lstrip('-')} of {method}: {sign * value:.5g}, bar {sign * bars[name]:.5g}: {verdict}")
