"""The front matter of a model card, as Hugging Face reads it."""

from __future__ import annotations

from typing import Any

import yaml

from hpctrain.profile.schema import Profile
from hpctrain.report.validation_file import TaskScores, ValidationFile, is_part

_TAGS = {
    ("catalogue", "class"): "tabular-classification",
    ("catalogue", "redshift"): "tabular-regression",
    ("catalogue", "value"): "tabular-regression",
    ("images", "class"): "image-classification",
}
"""Kind of data and kind of task to the task of Hugging Face, where it has one."""


class _NoAliases(yaml.SafeDumper):
    """Write equal parts out, each time: people read this."""

    def ignore_aliases(self, data: Any) -> bool:
        """Return True for everything."""
        return True


def front_matter(profile: Profile, kind: str, found: ValidationFile) -> list[str]:
    """Return the lines of the front matter, with metrics for which lists of models can be sorted.

    Parameters
    ----------
    profile : Profile
    kind : str
        Kind of data.
    found : ValidationFile

    References
    ----------
    .. [1] https://huggingface.co/docs/hub/model-cards
    """
    card = profile.validate.card
    tags = list(dict.fromkeys(_TAGS[kind, task.kind] for task in found.tasks.values() if (kind, task.kind) in _TAGS))
    values: dict[str, Any] = {
        **({"license": card.licence.lower()} if card.licence else {}),
        "library_name": "hpctrain",
        **({"pipeline_tag": tags[0]} if tags else {}),
        "tags": ["astronomy", "hpctrain", found.family, kind],
        "model-index": [{"name": profile.name, "results": _results(profile, kind, found)}],
    }
    text = yaml.dump(values, Dumper=_NoAliases, sort_keys=False, allow_unicode=True, width=120)
    return ["---", *text.splitlines(), "---"]


def _results(profile: Profile, kind: str, found: ValidationFile) -> list[dict[str, Any]]:
    split = found.split.get("results", "validation") if isinstance(found.split, dict) else "validation"
    dataset = {"name": profile.name, "type": kind, "split": split}
    return [
        {
            "task": {"type": _TAGS.get((kind, task.kind), task.kind), "name": title},
            "dataset": dataset,
            "metrics": _metrics(task),
        }
        for title, task in found.tasks.items()
    ]


def _metrics(task: TaskScores) -> list[dict[str, Any]]:
    return [
        {"type": name, "value": float(f"{metric.value:.6g}"), "name": metric.label}
        for name, metric in task.metrics.items()
        if metric.value is not None and not is_part(name)
    ]
