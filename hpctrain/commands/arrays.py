"""``--array KEY=V1,V2``: the values of every task of a job array."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from hpctrain.errors import Problem, ProfileError


def array_tasks(texts: list[str]) -> list[list[str]]:
    """Return the overrides of every task.

    Parameters
    ----------
    texts : list of str
        For example ``["train.seed=1,2", "train.learning_rate=1e-3,1e-4"]``, which makes four tasks.

    Raises
    ------
    ProfileError
        A text does not have this form, or names a key that the whole array shares.
    """
    axes = []
    for text in texts:
        key, equals, values = text.partition("=")
        choices = split_outside_brackets(values)
        if not equals or not key or not all(choices):
            message = f"'{text}' is not KEY=VALUE,VALUE,...; such as train.seed=1,2,3"
            raise ProfileError("command line", [Problem("--array", message)])
        if key == "name" or key.startswith("launch."):
            message = f"'{key}' belongs to the array as a whole; change it with --set"
            raise ProfileError("command line", [Problem("--array", message)])
        axes.append([f"{key}={choice}" for choice in choices])
    return [list(task) for task in itertools.product(*axes)]


def split_outside_brackets(text: str) -> list[str]:
    """Split at commas that are not inside brackets or braces, so that a value can be a list."""
    parts, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts]


def index_lines(array_values: Sequence[Sequence[str]]) -> list[str]:
    """Return a line for each task of an array: its index and its values."""
    width = len(str(len(array_values) - 1))
    return [f"index {index:>{width}}  {'  '.join(values)}" for index, values in enumerate(array_values)]
