"""A Feast repository for a source of features: its settings and its definitions in Python.

References
----------
Feast's documentation: https://docs.feast.dev (feature_store.yaml, feature views, point-in-time joins).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hpctrain.errors import Problem, ProfileError
from hpctrain.features.columns import CREATED, TIME, Feature
from hpctrain.features.source import Wanted, Written, write_source
from hpctrain.rundir import file_digest, write_atomic

SETTINGS, DEFINITIONS, DATA = "feature_store.yaml", "features.py", "data"
_MARK = "# Written by hpctrain features feast"
_SETTINGS = """\
{mark}; a relative path begins at this folder.
project: {name}
provider: local
registry: data/registry.db
offline_store:
  type: file
online_store:
  type: sqlite
  path: data/online_store.db
entity_key_serialization_version: 3
"""
_DEFINITIONS = '''\
{mark}. "feast apply" in this folder registers them.
"""{title}."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, ValueType
from feast.types import {types}

entity = Entity(name={entity!r}, join_keys=[{key!r}], value_type=ValueType.{key_type})

source = FileSource(
    name={source!r},
    path={path!r},
    timestamp_field={time!r},
    created_timestamp_column={created!r},
)

view = FeatureView(
    name={view!r},
    entities=[entity],
    ttl=timedelta(days={ttl:g}),{ttl_note}
    schema=[
{fields}
    ],
    source=source,
    description={title!r},
    tags={tags},
)

service = FeatureService(name={service!r}, features=[view])
'''


def write_repository(
    files: Sequence[Path],
    out: Path,
    wanted: Wanted,
    *,
    view: str,
    entity: str = "object",
    ttl_days: float = 0.0,
    overwrite: bool = False,
) -> Written:
    """Write a Feast repository: ``feature_store.yaml``, ``features.py`` and ``data/<view>.parquet``.

    Each file appears whole or not at all, the definitions last. Feast's own files (``data/registry.db``, the online
    store) stay as they are.

    Parameters
    ----------
    files : sequence of Path
        Tables with the same columns.
    out : Path
        Folder; made if it is not there.
    wanted : Wanted
    view, entity : str
        Names of the feature view and of the entity.
    ttl_days : float
        Age [d] from which a value counts as unknown; 0 for never.
    overwrite : bool
        Replace the files of an earlier call.

    Raises
    ------
    ProfileError
        There is a repository already, or a column is not there.
    DataError
        As of :func:`hpctrain.features.source.write_source`.
    """
    _refuse_to_replace(out, overwrite)
    (out / DATA).mkdir(parents=True, exist_ok=True)
    written = write_source(files, wanted, out / DATA / f"{view}.parquet")
    tags = {"files": ", ".join(path.name for path in files), "sha256": ", ".join(map(file_digest, files))}
    write_atomic(out / SETTINGS, _SETTINGS.format(mark=_MARK, name=view))
    write_atomic(out / DEFINITIONS, definitions(written, view, entity, ttl_days, tags))
    return written


def definitions(written: Written, view: str, entity: str, ttl_days: float, tags: Mapping[str, str]) -> str:
    """Return the Python text that defines entity, source, feature view and feature service.

    Parameters
    ----------
    written : Written
        The source.
    view, entity : str
    ttl_days : float
    tags : mapping of str to str
        What the feature view remembers of its origin.
    """
    key = written.join_key
    types = {each.type for each in (key, *written.features)} | ({"Array"} if any(_sizes(written)) else set())
    return _DEFINITIONS.format(
        mark=_MARK,
        title=f"Features of {tags['files']}",
        types=", ".join(sorted(types)),
        entity=entity,
        key=key.name,
        key_type=key.type.upper(),
        source=f"{view}_source",
        path=f"{DATA}/{view}.parquet",
        time=TIME,
        created=CREATED,
        view=view,
        ttl=ttl_days,
        ttl_note="" if ttl_days else "  # values never expire",
        fields="\n".join(_field(each) for each in written.features),
        tags=json.dumps(dict(tags)),
        service=f"{view}_all",
    )


def _sizes(written: Written) -> list[int]:
    return [each.size for each in written.features]


def _field(feature: Feature) -> str:
    dtype = f"Array({feature.type})" if feature.size else feature.type
    words = [f"name={feature.name!r}", f"dtype={dtype}"]
    if feature.description:
        words.append(f"description={feature.description!r}")
    tags = {"unit": feature.unit, "column": feature.column if feature.column != feature.name else ""}
    if tags := {name: text for name, text in tags.items() if text}:
        words.append(f"tags={tags!r}")
    return f"        Field({', '.join(words)}),"


def _refuse_to_replace(out: Path, overwrite: bool) -> None:
    for name in (SETTINGS, DEFINITIONS):
        path = out / name
        if not path.exists():
            continue
        if not overwrite:
            message = f"{path} is there already; give another folder, or --overwrite"
        elif not path.read_text(encoding="utf-8", errors="replace").startswith(_MARK):
            message = f"{path} was not written by hpctrain features feast, so it is not replaced; give another folder"
        else:
            continue
        raise ProfileError("command line", [Problem("--out", message)])
