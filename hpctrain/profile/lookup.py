"""Find model families and kinds of data by name, and their words. Imports no pydantic: ``status`` needs no more."""

from __future__ import annotations

import functools
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpctrain.files import read_text
from hpctrain.plugins import DEFAULT_FAMILY, FAMILIES, KINDS, find_plugin
from hpctrain.words import Words

if TYPE_CHECKING:
    from hpctrain.families.family import Family
    from hpctrain.kinds.kind import Kind
    from hpctrain.profile.sections.data import DataSection

FAMILY_GROUP, KIND_GROUP = "hpctrain.families", "hpctrain.kinds"
"""Groups of entry points with which an installed package announces its families and kinds."""


@functools.cache
def find_family(name: str) -> Family:
    """Return the model family of a name.

    Raises
    ------
    PluginError
        Nothing has this name, or its module cannot be used.
    """
    return find_plugin(name, FAMILIES, FAMILY_GROUP, "FAMILY")


@functools.cache
def find_kind(name: str) -> Kind:
    """Return the kind of data of a name.

    Raises
    ------
    PluginError
        Nothing has this name, or its module cannot be used.
    """
    return find_plugin(name, KINDS, KIND_GROUP, "KIND")


def data_section_of(family: Family) -> type[DataSection]:
    """Return the class of the ``data`` section of a profile with this family."""
    return family.data_section or find_kind(family.kind).section


def words_of_family(family: Family) -> Words:
    """Return what users call the samples and metrics of a family."""
    return replace(find_kind(family.kind).words, metrics=family.shown_metrics)


def family_of_file(path: Path) -> Family | None:
    """Return the model family of a run; None if it cannot be found.

    A damaged profile, or a family whose package is only installed elsewhere, must not keep a user from seeing a run.

    Parameters
    ----------
    path : Path
        ``profile.yaml`` of a run directory.
    """
    try:
        name = _family_in(read_text(path), path.name)
        return None if name is None else find_family(name)
    except (Exception, SystemExit):  # of a damaged file, or of the module of another package
        return None


def words_of_file(path: Path) -> Words:
    """Return what users call the samples and metrics of a run; general words if they cannot be found.

    Parameters
    ----------
    path : Path
        ``profile.yaml`` of a run directory.
    """
    family = family_of_file(path)
    try:
        return Words() if family is None else words_of_family(family)
    except (Exception, SystemExit):  # of the module of its kind of data
        return Words()


_FAMILY = re.compile(r"^model:\n(?: +.*\n)*? +family: *['\"]?([\w.:-]+)", re.MULTILINE)
"""Family in a profile as :func:`~hpctrain.profile.load.dump_profile` writes it."""


def _family_in(text: str, source: str) -> str | None:
    """Return the family that the text of a profile names; None if the text is no profile."""
    if (found := _FAMILY.search(text)) is not None:
        return found[1]
    from hpctrain.profile.yaml_text import parse_yaml  # takes longer than the rest of `status`

    values = parse_yaml(text, source).data
    return (values.get("model") or {}).get("family", DEFAULT_FAMILY) if values else None
