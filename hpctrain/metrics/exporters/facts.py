"""What a tracker shows of a run besides its records: profile, code, host, jobs and attempts, data with digests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from typing import Any

from hpctrain.metrics.events import Failed, Finished, Stopped, read_event
from hpctrain.metrics.exporters.subject import RUN, TRAINING, DataSet, Subject
from hpctrain.profile.resume import plain
from hpctrain.profile.schema import Profile
from hpctrain.rundir import RunDir, job_ids, read_json

BY_CONTENT, BY_COLUMNS, BY_LOOK = "sha256 of the file", "sha256 of its columns", "size and time"
"""What the digest of a data set is made of."""
_MOST_ATTEMPTS = 50


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
    return dict(flat(plain(profile)))


def flat(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield nested plain values as dotted keys and texts; lists are JSON, and what is not set is left out."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, (*path, str(key)))
    elif value is not None:
        yield ".".join(path), value if isinstance(value, str) else json.dumps(value)


def subject_of(run: RunDir, profile: Profile, **changes: Any) -> Subject:
    """Return a run as what has a tracked run of its own.

    Parameters
    ----------
    run : RunDir
    profile : Profile
    **changes
        Of the fields of :class:`Subject`.
    """
    first = next(iter(run.read_metrics()), None)
    facts: dict[str, Any] = {
        "kind": RUN,
        "key": f"{run.name}/{run.run_id}",
        "title": run.run_id,
        "experiment": profile.name,
        "description": profile.description or "",
        "parameters": parameters_of(profile),
        "tags": {**tags_of(run), **attempts_of(run)},
        "config": plain(profile),
        "data": data_of(run),
        "began_s": None if first is None else first["time"],
    }
    facts |= changes
    facts["tags"] = {**facts["tags"], "run": facts["key"]}
    return Subject(run=run, **facts)


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


def attempts_of(run: RunDir) -> dict[str, str]:
    """Return the number of attempts, and a line for each: where and when it began, and how it ended."""
    ends: dict[int, str] = {}
    for record in run.read_metrics("event"):
        event = read_event(record)
        if isinstance(event, Stopped | Failed | Finished):
            code = f", exit code {event.exit_code}" if getattr(event, "exit_code", None) is not None else ""
            ends[record.get("attempt", 0)] = f"{event.name}{code}"
    tags = {}
    attempts = run.read_attempts()
    for attempt in attempts[-_MOST_ATTEMPTS:]:
        number = attempt["attempt"]
        job = f"job {attempt['job_id']}" if attempt.get("job_id") else "no job"
        began = f", {_clock(attempt['started_at'])}" if "started_at" in attempt else ""
        hosts = f" on {attempt['hosts']}" if attempt.get("hosts") else ""
        tags[f"attempt.{number:04d}"] = f"{job}{hosts}{began}: {ends.get(number, 'no end on record')}"
    return {"attempts": str(len(attempts)), **tags} if attempts else {}


def _clock(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def data_of(run: RunDir, known: Mapping[str, str] | None = None) -> tuple[DataSet, ...]:
    """Return the data files of a run, as they were when it was submitted.

    Parameters
    ----------
    run : RunDir
    known : mapping of str to str, optional
        SHA-256 of files, by path, of which more is known than ``provenance.json`` says.
    """
    facts = read_json(run.provenance, {})
    listed = facts.get("data") if isinstance(facts, dict) else None
    found = []
    for entry in listed if isinstance(listed, list) else []:
        if isinstance(entry, dict) and isinstance(entry.get("path"), str):
            digest, means = _digest_of(entry, known or {})
            found.append(DataSet(entry["path"], digest, means, TRAINING, entry.get("bytes")))
    return tuple(found)


def _digest_of(entry: Mapping[str, Any], known: Mapping[str, str]) -> tuple[str, str]:
    if entry["path"] in known:
        return known[entry["path"]], BY_CONTENT
    from hpctrain.samples.fingerprint import AS_WRITTEN  # numpy: not where nothing has data

    columns = entry.get("columns")
    if isinstance(columns, dict) and columns and entry.get("hashes") == AS_WRITTEN:
        return sha256_of(columns), BY_COLUMNS
    return sha256_of([entry.get("bytes"), entry.get("modified")]), BY_LOOK


def sha256_of(value: Any) -> str:
    """Return the SHA-256 of a plain value, written as JSON with sorted keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
