"""What a tracker shows of a run besides its records: the profile as parameters; code, host and jobs as tags."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.profile.resume import plain
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, job_ids, read_json


def parameters_of(profile: Profile) -> dict[str, str]:
    """Return the resolved profile as dotted keys and texts, without the keys that are not set.

    Parameters
    ----------
    profile : Profile

    Returns
    -------
    dict of str to str
        Such as ``train.learning_rate``: ``0.001``; lists are JSON.
    """
    return dict(_flat(plain(profile), ()))


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _flat(item, (*path, str(key)))
    elif value is not None:
        yield ".".join(path), value if isinstance(value, str) else json.dumps(value)


def tags_of(run: RunDir) -> dict[str, str]:
    """Return where a run comes from: run directory, commit, user, host, and the ids of all its jobs.

    Parameters
    ----------
    run : RunDir

    Returns
    -------
    dict of str to str
        Only what the run directory says; without the uncommitted changes of ``provenance.json``.
    """
    facts = read_json(run.provenance, {})
    facts = facts if isinstance(facts, dict) else {}
    tags = {"run": f"{run.name}/{run.run_id}", "run_directory": str(run.path)}
    for name in ("user", "host", "hpctrain"):
        if isinstance(facts.get(name), str):
            tags[name] = facts[name]
    for name in ("project", "code"):
        with contextlib.suppress(KeyError, TypeError):
            git = facts[name]["git"]
            tags[f"{name}.git_commit"] = git["commit"] + ("-dirty" if git.get("dirty") else "")
    if jobs := job_ids(run):
        tags["job_ids"] = ", ".join(jobs)
    hosts = [str(attempt["hosts"]) for attempt in run.read_attempts() if attempt.get("hosts")]
    if hosts:
        tags["hosts"] = ", ".join(dict.fromkeys(hosts))
    return tags
