"""Make ``profiles/schema.json`` (for editors) and ``docs/profile.md`` (for people) from the classes of the sections."""

from __future__ import annotations

import ast
import inspect
import json
import textwrap
from typing import Any

from hpctrain.profile.document import KeyPath
from hpctrain.profile.families import profile_class
from hpctrain.profile.load import ENVIRONMENT_FIELDS
from hpctrain.profile.sections.base import Section
from hpctrain.profile.wording import Schema, allowed, sections

_EXTENDS = "Base profile, relative to this file: sections are merged key by key, lists and single values are replaced."

_PREFACE = """\
# The profile

One YAML file describes one training run. `hpctrain check PROFILE` lists everything that is wrong with it;
`hpctrain submit PROFILE` runs it. Only `name` and `data.files` are required; everything else has a default.

    name: my-run
    data:
      files: [spectra.h5]

- **A base file**: `extends: base.yaml`, relative to the file that contains it. Sections are merged key by key; lists
  and single values are replaced.
- **Values for one run**: `--set train.batch_size=64`, any number of times. The value is YAML
  (`--set data.files=[a.h5,b.h5]`).
- **Environment variables**: `${{SCRATCH}}` is replaced in {environment}, and nowhere else. `$$` is a dollar sign.
- **YAML without surprises**: `24:00:00` is a time, `1e-3` is a number, `no` means false only for a switch, and a key
  given twice is an error.
- **Editors** complete keys and show these texts if the file begins with
  `# yaml-language-server: $schema=schema.json` (as the shipped profiles do).
- **No credentials**: they come from the environment. A profile that contains one is refused.

This page is made from the classes of the sections by `hpctrain schema --markdown --out docs/profile.md`.
"""


def profile_json_schema() -> Schema:
    """Return the JSON Schema of a profile file, with descriptions, for editors."""
    profile = profile_class()
    schema = _described(profile.model_json_schema(), profile)
    for name, model in _section_models(profile).items():
        schema["$defs"][name] = _described(schema["$defs"][name], model)
    for definition in (schema, *schema["$defs"].values()):
        for key, value in definition["properties"].items():
            value.pop("title", None)
            if isinstance(value.get("default"), dict) and value["default"]:
                value.pop("default")  # the keys of a section show their own defaults
            if _takes_nothing_for_a_section(value, schema["$defs"]):
                definition["properties"][key] = {"anyOf": [{"$ref": value.pop("$ref")}, {"type": "null"}], **value}
    schema["properties"]["extends"] = {"type": "string", "minLength": 1, "description": _EXTENDS}
    # A file with a base may take the required keys from it.
    schema["if"] = {"not": {"required": ["extends"]}}
    needed_in_data = schema["$defs"][profile.model_fields["data"].annotation.__name__].pop("required")
    schema["then"] = {"required": schema.pop("required"), "properties": {"data": {"required": needed_in_data}}}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "hpctrain profile"}


def profile_json_schema_text() -> str:
    """Return the text of ``profiles/schema.json``."""
    return json.dumps(profile_json_schema(), indent=2, ensure_ascii=False) + "\n"


def profile_markdown() -> str:
    """Return the text of ``docs/profile.md``."""
    environment = ", ".join(f"`{'.'.join(path)}`" for path in ENVIRONMENT_FIELDS)
    parts = [_PREFACE.format(environment=environment)]
    profile = profile_class()
    models = {(): profile, **dict(_models_by_path(profile, ()))}
    for path, node in sections(profile):
        model = models[path]
        title = ".".join(map(str, path)) if path else "At the top"
        parts.append(f"## {title}\n\n{_first_words(model)}\n")
        parts.append("| key | default | what it is | allowed |\n|---|---|---|---|")
        texts = attribute_docstrings(model)
        for key, child in node["properties"].items():
            if "properties" in child and not child.get("optional"):
                continue  # a section has its own chapter
            default = _default(key, child, node)
            parts.append(f"| `{key}` | {default} | {_cell(texts[key])} | {_cell(_allowed_here(key, child))} |")
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def attribute_docstrings(model: type[Section]) -> dict[str, str]:
    """Return the text under each field of a section.

    The function reads the source when it is called. Reading at import would add 30 ms to the start of every command.
    """
    texts: dict[str, str] = {}
    for parent in reversed(model.__mro__):
        if not (issubclass(parent, Section) and parent is not Section):
            continue
        try:
            (definition,) = ast.parse(textwrap.dedent(inspect.getsource(parent))).body
        except OSError:  # made by profile_class, or typed into an interpreter
            continue
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant):
                assert isinstance(field.target, ast.Name)
                texts[field.target.id] = inspect.cleandoc(str(text.value.value))
    return texts


def _described(node: Schema, model: type[Section]) -> Schema:
    texts = attribute_docstrings(model)
    sections_here = {path[0]: _first_words(section) for path, section in _models_by_path(model, ()) if len(path) == 1}
    properties = {
        key: {**child, "description": _plain(texts.get(key) or sections_here[key])}
        for key, child in node["properties"].items()
    }
    return {**node, "properties": properties}


def _section_models(model: type[Section]) -> dict[str, type[Section]]:
    return {found.__name__: found for _, found in _models_by_path(model, ())}


def _models_by_path(model: type[Section], path: KeyPath) -> list[tuple[KeyPath, type[Section]]]:
    found: list[tuple[KeyPath, type[Section]]] = []
    for key, field in model.model_fields.items():
        options = [field.annotation, *getattr(field.annotation, "__args__", ())]
        for option in options:
            if isinstance(option, type) and issubclass(option, Section):
                found += [((*path, key), option), *_models_by_path(option, (*path, key))]
    return found


def _takes_nothing_for_a_section(node: Schema, definitions: dict[str, Schema]) -> bool:
    return "$ref" in node and "properties" in definitions[node["$ref"].rsplit("/", 1)[1]]


def _first_words(model: type[Section]) -> str:
    return inspect.cleandoc(inspect.getdoc(model) or "").split("\n\n")[0]


def _default(key: str, node: Schema, section: Schema) -> str:
    if key in section.get("required", []):
        return "**required**"
    value: Any = node.get("default")
    if value is None:
        return "unset"
    return f"`{json.dumps(value)}`" if not isinstance(value, str) else f"`{value}`" if value else "empty"


def _allowed_here(key: str, node: Schema) -> str:
    text = allowed(node)
    if "properties" in node:
        text = "a section (below), or null"
    elif node.get("optional"):
        text += ", or null"
    return text


def _cell(text: str) -> str:
    text = text.replace("``", "`").replace("|", "\\|").replace("[](", "[]\\(")  # brackets that are no link
    return " ".join(text.split())


def _plain(text: str) -> str:
    return " ".join(text.replace("``", "").replace("`", "").split())
