"""Describe in words which values a field allows: one wording for error messages and for docs/profile.md.

The module reads the JSON Schema that pydantic makes of :class:`~hpctrain.profile.schema.Profile` or another section.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from hpctrain.profile.document import KeyPath
from hpctrain.profile.sections.base import NAME_PATTERN, SLURM_WORD_PATTERN, Section
from hpctrain.profile.sections.validate import LICENCE_PATTERN, METRIC_PATTERN
from hpctrain.profile.targets import MODULE_PATTERN

Schema = dict[str, Any]

PATTERNS_IN_WORDS = {
    NAME_PATTERN: "a name of letters, digits, dots, dashes and underscores (at most 64, the first a letter or digit)",
    SLURM_WORD_PATTERN: "a word of letters, digits and _.,:+*=@/&|[]()-, the first a letter or digit",
    LICENCE_PATTERN: "the short name of a licence, such as cc-by-4.0",
    METRIC_PATTERN: "a task and a metric, such as Z.nmad",
    MODULE_PATTERN: "the module of a target of your own, such as my_package.my_target",
    r"^[a-z][a-z0-9-]*$": "an sbatch option by its long name in lower case, such as mail-type",
}


@functools.cache
def schema_of(model: type[Section]) -> Schema:
    """Return the JSON Schema of a section with all references resolved."""
    schema = model.model_json_schema()
    return _inline(schema, schema.get("$defs", {}))


def _inline(node: Any, definitions: dict[str, Schema]) -> Any:
    """Resolve references, and replace the choice between null and one schema by that schema."""
    if isinstance(node, list):
        return [_inline(child, definitions) for child in node]
    if not isinstance(node, dict):
        return node
    beside = {key: _inline(value, definitions) for key, value in node.items() if key not in ("$ref", "anyOf", "$defs")}
    if "$ref" in node:
        return {**_inline(definitions[node["$ref"].rsplit("/", 1)[1]], definitions), **beside}
    if "anyOf" in node:
        branches = [_inline(branch, definitions) for branch in node["anyOf"] if branch.get("type") != "null"]
        optional = {"optional": True} if len(branches) < len(node["anyOf"]) else {}
        return {**(branches[0] if len(branches) == 1 else {"anyOf": branches}), **beside, **optional}
    return beside


def schema_at(path: KeyPath, model: type[Section]) -> Schema | None:
    """Return the schema of the value at a key path, or None where there is no such key."""
    node: Any = schema_of(model)
    for key in path:
        if isinstance(key, int):
            items = node.get("prefixItems", [])
            node = items[key] if key < len(items) else node.get("items")
        else:
            free = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
            node = node.get("properties", {}).get(key) or free[0]
        if not isinstance(node, dict):
            return None
    return node


def sections(model: type[Section]) -> Iterator[tuple[KeyPath, Schema]]:
    """Yield every section with its key path, from the top down."""
    yield from _sections(schema_of(model), ())


def _sections(node: Schema, path: KeyPath) -> Iterator[tuple[KeyPath, Schema]]:
    yield path, node
    for key, child in node["properties"].items():
        entry = child.get("items", child)  # a list of sections has a chapter that describes one entry
        if "properties" in entry:
            yield from _sections(entry, (*path, key))


def allowed(node: Schema) -> str:
    """Return the allowed values of a schema in words, such as ``a whole number from 1 to 4096``."""
    if "enum" in node:
        return "one of " + ", ".join(str(value) for value in node["enum"])
    if "const" in node:
        return str(node["const"])
    if "anyOf" in node:
        return " or ".join(allowed(branch) for branch in node["anyOf"])
    kind = node.get("type")
    if kind in ("integer", "number"):
        return ("a whole number" if kind == "integer" else "a number") + _range(node)
    if kind == "boolean":
        return "true or false"
    if kind == "string":
        return PATTERNS_IN_WORDS.get(node.get("pattern", ""), "text")
    if kind == "array":
        return _array(node)
    if kind == "object":
        return "a section of keys" if "properties" in node else "a mapping"
    return "a time such as 24:00:00, or minutes"  # the one field of two types, launch.time_limit


def _range(node: Schema) -> str:
    low, high = node.get("minimum"), node.get("maximum")
    above, below = node.get("exclusiveMinimum"), node.get("exclusiveMaximum")
    if low is not None and high is not None:
        return f" from {low:.15g} to {high:.15g}"
    parts = [
        f"{low:.15g} or more" if low is not None else f"above {above:.15g}" if above is not None else "",
        f"at most {high:.15g}" if high is not None else f"below {_short(below)}" if below is not None else "",
    ]
    text = " and ".join(part for part in parts if part)
    return f", {text}" if text else ""


def _short(bound: float) -> str:
    return "2^63" if bound == 2**63 else f"{bound:.15g}"


def _array(node: Schema) -> str:
    if "prefixItems" in node:
        return "a list of 2 numbers, such as [4000, 5000]"
    items = node.get("items", {})
    of = {
        "string": "texts",
        "integer": "whole numbers",
        "number": "numbers",
        "array": "pairs of numbers",
        "object": "sections (below)",
    }
    lengths = {(1, None): "one or more ", (1, 8): "1 to 8 ", (2, 2): "2 "}
    example = f", such as {node['examples'][0]}" if "examples" in node else ""
    return f"a list of {lengths.get((node.get('minItems'), node.get('maxItems')), '')}{of[items['type']]}{example}"
