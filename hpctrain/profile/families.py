"""Find the model family that a profile names, and make the class of a profile with its sections.

There is one class per family and no union of families: so the path, the line and the near name in an error are exact.
The first attempt to read a profile looks at ``model.family`` alone.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, create_model

from hpctrain.plugins import DEFAULT_FAMILY, FAMILIES, PluginError, names
from hpctrain.profile.lookup import FAMILY_GROUP, data_section_of, find_family, find_kind, words_of_family
from hpctrain.profile.near import did_you_mean
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.data import DataSection
from hpctrain.profile.sections.model import ModelSection
from hpctrain.words import Words

if TYPE_CHECKING:
    from hpctrain.families.family import Family
    from hpctrain.kinds.kind import Kind


def family_of(profile: Profile) -> Family:
    """Return the model family of a profile."""
    return find_family(profile.model.family)


def kind_of(profile: Profile) -> Kind:
    """Return the kind of data of a profile's family."""
    return find_kind(family_of(profile).kind)


def words_of(profile: Profile) -> Words:
    """Return what users call the samples and metrics of a profile."""
    return words_of_family(family_of(profile))


def profile_class(family: str = DEFAULT_FAMILY) -> type[Profile]:
    """Return the class of the profiles of a model family; the same one each time.

    Raises
    ------
    PluginError
        Nothing has this name, or its module cannot be used.
    """
    return _profile_class(family)


@functools.cache
def _profile_class(family: str) -> type[Profile]:
    found = find_family(family)
    section, data = found.section, data_section_of(found)
    # A profile without a model section gets the default family, so only that one needs a default here.
    model = (section, section()) if family == DEFAULT_FAMILY else (section, ...)
    return create_model("Profile", __base__=Profile, __module__=__name__, data=(data, ...), model=model)


class _OpenData(DataSection):
    model_config = ConfigDict(extra="allow")
    simulate: Any = None


class _OpenModel(ModelSection):
    model_config = ConfigDict(extra="allow")


_OPEN = create_model("Profile", __base__=Profile, __module__=__name__, data=(_OpenData, ...), model=(_OpenModel, ...))


def class_for(values: Mapping[str, Any]) -> tuple[type[Profile], str | None]:
    """Return the class for the plain values of a profile.

    Returns
    -------
    model : type
        Class of the family that the values name. If there is no such family, a class that accepts any keys of ``model``
        and ``data``, so that the problems of the other sections can be found.
    problem : str or None
        What is wrong with ``model.family``.
    """
    section = values.get("model")
    name = section.get("family", DEFAULT_FAMILY) if isinstance(section, Mapping) else DEFAULT_FAMILY
    if not isinstance(name, str):
        return profile_class(), None  # the validation says that it must be text
    try:
        return profile_class(name), None
    except PluginError as error:
        return _OPEN, f"{error}{did_you_mean(name, names(FAMILIES, FAMILY_GROUP))}"


def profile_of(values: Mapping[str, Any]) -> Profile:
    """Return the profile of plain values that :func:`~hpctrain.profile.resume.plain` or a JSON file holds.

    Raises
    ------
    PluginError
        There is no such family.
    ValueError
        A value is wrong.
    """
    model, problem = class_for(values)
    if problem is not None:
        raise PluginError(f"model.family: {problem}")
    return model.model_validate(values)
