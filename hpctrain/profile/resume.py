"""The keys that a resumed run may change and those that it may not: one table for every way to resume a run.

A key in :func:`fixed_keys`, or in a section in it, keeps the value with which the run began. Every other key may
change: the learning rate, the number of epochs, the ranks, the paths of the files, how often to save. The files may
move, but must contain the same samples; the trainer compares their number and order with the checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from hpctrain.errors import Problem
from hpctrain.plugins import PluginError
from hpctrain.profile.families import profile_of
from hpctrain.profile.schema import Profile

_FIXED: dict[str, str] = {
    "name": "the folder of the run has this name",
    "train.seed": "the order of the samples and all random numbers depend on it",
    "train.init_from": "the weights now come from the checkpoint",
    "train.freeze": "the checkpoint has optimiser moments for the trained weights only",
    "train.keep_zeros": "the checkpoint has the weights, and their zeros, already",
}
"""Key to the reason why a resumed run cannot change it; kind and family add those of ``data`` and ``model``.
`train.global_batch` is fixed too, while its factors `batch_size`, `accumulation` and ranks may change;
`train.ema_decay` cannot be switched on."""


def fixed_keys(profile: type[Profile] | Profile) -> dict[str, str]:
    """Return the keys, or sections, that a resumed run cannot change, with the reasons.

    Parameters
    ----------
    profile : Profile, or its class
    """
    fields = (profile if isinstance(profile, type) else type(profile)).model_fields
    fixed = dict(_FIXED)
    for section in ("data", "model"):
        fixed |= {f"{section}.{key}": reason for key, reason in fields[section].annotation.fixed.items()}
    return fixed


_UPDATE_SHAPE = ("train.batch_size", "train.accumulation", "train.global_batch")


@dataclass(frozen=True)
class Change:
    """One key with another value.

    Parameters
    ----------
    key : str
        Dotted path, such as ``train.learning_rate``.
    old, new : Any
        Plain values; None where the key is not set.
    """

    key: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.key} {show(self.old)} → {show(self.new)}"

    def as_json(self) -> dict[str, Any]:
        """Return the change as an entry of the event ``profile_changed``."""
        return {"key": self.key, "old": self.old, "new": self.new}


def show(value: Any) -> str:
    """Return a value as it is written in a profile."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return f"[{', '.join(map(show, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {show(item)}' for key, item in value.items())}}}"
    return str(value)


def plain(profile: Profile) -> dict[str, Any]:
    """Return the profile as plain values, ready for JSON."""
    return profile.model_dump(mode="json")


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the keys whose values differ between two plain profiles, in the order of the profile."""
    return list(_differences(old, new, ()))


def _differences(old: Any, new: Any, path: tuple[str, ...]) -> Iterator[Change]:
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in dict.fromkeys([*new, *old]):
            yield from _differences(old.get(key), new.get(key), (*path, str(key)))
    elif old != new:
        yield Change(".".join(path), old, new)


def changes_by_a_user(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Change]:
    """Return the differences that a person made, without those that the trainer made.

    The trainer writes the number it found for ``batch_size: auto`` into the run's profile, and the default warm-up once
    it knows the number of steps. Other ranks with the same global batch imply another accumulation.

    Parameters
    ----------
    old, new : mapping
        Plain profiles of two attempts.
    """
    found = differences(old, new)
    try:
        before, after = profile_of(old), profile_of(new)
    except (ValueError, PluginError):  # written by another version
        return found
    settled: set[str] = set()
    if before.global_batch == after.global_batch:
        settled |= {"train.accumulation", "train.global_batch"}
        if not before.update_shape.is_settled:
            settled |= set(_UPDATE_SHAPE)
    if before.train.warmup_steps is None:
        settled.add("train.warmup_steps")
    return [change for change in found if change.key not in settled]


def reason_to_refuse(profile: Profile, key: str) -> str | None:
    """Return why a resumed run of this profile cannot change `key`, or None if it can."""
    fixed, parts = fixed_keys(profile), key.split(".")
    return next((fixed[above] for n in range(len(parts), 0, -1) if (above := ".".join(parts[:n])) in fixed), None)


def begun_with(profile: Profile, card: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with which a run began: those of its profile; where the card of its model differs, the card's.

    The first attempt writes the card (``model/model.json``) once, so it describes the network of the checkpoints even
    if somebody has changed ``profile.yaml`` since.

    Parameters
    ----------
    profile : Profile
        Profile of the run.
    card : mapping
        Card of the run's model; empty if there is none.
    """
    values = plain(profile)
    section = card.get("section")
    if isinstance(section, Mapping):
        fixed = [key for key in values["model"].keys() & section.keys() if key in profile.model.fixed]
        values["model"] |= {key: section[key] for key in fixed}
    for key in (*profile.data.card_entries, "split"):
        if isinstance(entry := card.get(key), Mapping):
            # An entry is a section of `data`, or it has the name of the kind and holds keys of `data`.
            part = values["data"].get(key, values["data"])
            part |= {name: value for name, value in entry.items() if name in part}
    if "seed" in card:
        values["train"]["seed"] = card["seed"]
    return values


def misfits(before: Profile, after: Profile, card: Mapping[str, Any]) -> list[Change]:
    """Return the fixed keys that differ between a run that has begun and the profile with which it shall resume.

    Parameters
    ----------
    before : Profile
        Profile of the run.
    after : Profile
        The same with the requested changes.
    card : mapping
        Card of the run's model; empty if there is none.
    """
    now = plain(after)
    found = []
    for change in differences(begun_with(before, card), now):
        if reason_to_refuse(before, change.key) is None:
            continue
        section, _, key = change.key.partition(".")
        if section == "model" and key in before.model.pinned and change.new in (None, plain(before)["model"][key]):
            continue  # not set: the value that the first attempt computed remains
        if change.key == "train.init_from" and after.train.keep_zeros:
            continue  # each attempt reads the zeros from there, so the file may have moved
        found.append(change)
    if before.train.ema_decay is None and after.train.ema_decay is not None:
        found.append(Change("train.ema_decay", None, after.train.ema_decay))
    return found


def describe_misfit(profile: Profile, change: Change) -> Problem:
    """Return a misfit as a problem that says why the key is fixed and what to do instead."""
    reason = reason_to_refuse(profile, change.key) or "the checkpoint has no moving average of the weights"
    old, new = show(change.old), show(change.new)
    instead = "keep it, or start a new run from these weights with train.init_from"
    if change.key == "train.init_from":
        instead = "leave it as it is, or start a new run"
    return Problem(change.key, f"is {old} in this run and cannot become {new}: {reason}; {instead}")
