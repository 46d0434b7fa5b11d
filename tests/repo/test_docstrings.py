"""Docstrings are numpydoc's: known sections, and parameters that are those of the function."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import warnings
from collections.abc import Iterator

import pytest
from numpydoc.docscrape import NumpyDocString

import hpctrain

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(hpctrain.__path__, "hpctrain.")
    if not module.name.endswith("__main__")
)


def public_objects(module_name: str) -> Iterator[tuple[str, object]]:
    """Yield the public functions and classes a module defines, and the public methods of those classes."""
    module = importlib.import_module(module_name)
    for name, thing in vars(module).items():
        if name.startswith("_") or getattr(thing, "__module__", None) != module_name:
            continue
        if inspect.isfunction(thing):
            yield f"{module_name}.{name}", thing
        elif inspect.isclass(thing):
            yield f"{module_name}.{name}", thing
            for method_name, method in vars(thing).items():
                if not method_name.startswith("_") and inspect.isfunction(method):
                    yield f"{module_name}.{name}.{method_name}", method


def parsed(thing: object) -> NumpyDocString | None:
    text = inspect.getdoc(thing) if getattr(thing, "__doc__", None) else None
    if not text:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an unknown section is a warning, and dropped
        return NumpyDocString(text)


def signature_names(thing: object) -> list[str] | None:
    try:
        return [name for name in inspect.signature(thing).parameters if name != "self"]
    except (TypeError, ValueError):
        return None


@pytest.mark.parametrize("module_name", MODULES)
def test_documented_parameters_are_those_of_the_signature(module_name):
    problems = []
    for name, thing in public_objects(module_name):
        try:
            doc = parsed(thing)
        except Exception as error:
            problems.append(f"{name}: {error}")
            continue
        if doc is None:
            continue
        names = [each.lstrip("*") for entry in doc["Parameters"] for each in entry.name.split(", ")]
        signature = signature_names(thing)
        if names and signature is not None:
            problems += [f"{name}: documents '{each}', which it does not take" for each in set(names) - set(signature)]
            if not inspect.isclass(thing):  # a dataclass of many fields may document them one by one in its body
                problems += [f"{name}: does not document '{each}'" for each in set(signature) - set(names)]
        problems += [
            f"{name}: type of '{entry.name}' is missing; write `name : type`"
            for entry in doc["Parameters"]
            if ":" in entry.name
        ]
    assert problems == []


@pytest.mark.parametrize("module_name", MODULES)
def test_every_module_and_public_class_says_what_it_is(module_name):
    module = importlib.import_module(module_name)
    assert module.__doc__, module_name
    missing = [name for name, thing in public_objects(module_name) if inspect.isclass(thing) and not thing.__doc__]
    assert missing == []
