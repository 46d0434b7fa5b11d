"""A run with all that is known about it: its validation, its gates, and the versions that were made from it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.metrics.exporters.facts import subject_of
from hpctrain.metrics.exporters.subject import News, Registered, Subject
from hpctrain.profile.schema import Profile
from hpctrain.registry.aliases import aliases_of
from hpctrain.registry.folder import Registry
from hpctrain.registry.version import read_version
from hpctrain.rundir import RunDir
from hpctrain.tracking.validated import gate_tags, validation_news, validation_of

Versions = Mapping[str, tuple[Registered, ...]]
"""The versions that were made from each run, by the path of its run directory."""


def versions_of(registry: Registry) -> Versions:
    """Return all versions of a registry by the run that they were made from, oldest first."""
    found: dict[str, tuple[Registered, ...]] = {}
    for name in registry.names():
        model = registry.model(name)
        aliases = aliases_of(model)
        for number in model.numbers():
            version = read_version(model, number)
            own = tuple(sorted(alias for alias, meant in aliases.items() if meant == number))
            path = version.facts["run"]["path"]
            found[path] = (*found.get(path, ()), Registered(name, number, own, version.path))
    return found


def run_subject(run: RunDir, profile: Profile, versions: Versions, **changes: Any) -> Subject:
    """Return a run with its validation and its registered versions.

    Parameters
    ----------
    run : RunDir
    profile : Profile
    versions : mapping
        As of :func:`versions_of`.
    **changes
        Of the fields of the subject; `tags` are added, and `news` come after those of the validation.
    """
    found = validation_of(run)
    tags, more = dict(changes.pop("tags", {})), changes.pop("news", None)
    subject = subject_of(run, profile, **changes)

    def news(known: Mapping[str, str]) -> Iterator[News]:
        yield from validation_news(run, found, known)
        yield from more(known) if more is not None else ()

    changes = {"tags": {**subject.tags, **gate_tags(found), **tags}, "news": news}
    return subject.changed(registered=versions.get(str(run.path), ()), **changes)
