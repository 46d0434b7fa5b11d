"""Read YAML text as plain data with line numbers, without the surprises of YAML 1.1.

PyYAML follows YAML 1.1, where ``24:00:00`` is the number 86400, ``1e-3`` is text, ``010`` is 8 and ``no`` is false.
Here scalars follow YAML 1.2: only true and false are logical values, decimal numbers are numbers, all else is text.
A key given twice is an error that names both lines.
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from hpctrain.errors import Problem
from hpctrain.profile.document import Document, KeyPath, Place, kind_of

MAX_VALUES = 20_000
"""Largest number of values; no real profile has as many, while a few lines of nested YAML aliases make millions."""

MAX_DEPTH = 50
"""Largest nesting. PyYAML recurses in C, and a hundred thousand brackets would crash the process."""

_INTEGER = re.compile(r"[-+]?[0-9]+(_[0-9]+)*")
_BASED_INTEGER = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(_[0-9]+)*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_SPECIAL: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf"), float("inf")),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), float("-inf")),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
_PLAIN = "plain"
_TAG = "tag:yaml.org,2002:"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):
    """Compose nodes only. Every unquoted scalar gets one special tag; :func:`read_scalar` decides what it means."""

    yaml_implicit_resolvers = {None: [(_PLAIN, re.compile(""))]}  # noqa: RUF012 (PyYAML's own name and form)


def read_scalar(text: str) -> Any:
    """Return the value of an unquoted YAML 1.2 scalar: None, bool, int, float or text.

    Examples
    --------
    >>> read_scalar("1e-3"), read_scalar("24:00:00"), read_scalar("no")
    (0.001, '24:00:00', 'no')
    """
    if text in _SPECIAL:
        return _SPECIAL[text]
    if len(text) > 40:
        return text  # too long for a number in a profile; Python reads such numbers as infinity, or refuses them
    if _INTEGER.fullmatch(text):
        return int(text)
    if _BASED_INTEGER.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text


class _Builder:
    """Build plain data from the composed nodes of one text."""

    def __init__(self, source: str) -> None:
        self.document = Document(source)
        self.num_values = 0
        self.open_nodes: set[int] = set()

    def complain(self, path: KeyPath, message: str, node: yaml.Node) -> None:
        where = ".".join(str(key) for key in path)
        self.document.problems.append(Problem(where, message, node.start_mark.line + 1))

    def build(self, node: yaml.Node, path: KeyPath) -> Any:
        self.num_values += 1
        if self.num_values > MAX_VALUES:
            raise _TooLargeError
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        if id(node) in self.open_nodes:
            self.complain(path, "an alias that contains itself; write the values out", node)
            self.document.unknown.add(path)
            return None
        if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
            self.refuse_tag(path, node)
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            return [self.item(child, (*path, index)) for index, child in enumerate(node.value)]
        finally:
            self.open_nodes.discard(id(node))

    def item(self, node: yaml.Node, path: KeyPath) -> Any:
        self.document.places[path] = Place(self.document.source, node.start_mark.line + 1)
        return self.build(node, path)

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        if node.tag == _PLAIN:
            return read_scalar(node.value)
        if node.tag in (f"{_TAG}str", "!"):
            return node.value
        if node.tag in {f"{_TAG}{kind}" for kind in ("int", "float", "bool", "null")}:
            return read_scalar(node.value)
        self.refuse_tag(path, node)
        return node.value

    def refuse_tag(self, path: KeyPath, node: yaml.Node) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self.complain(path, f"the tag {tag} is not allowed; write plain values", node)
        self.document.unknown.add(path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        result: dict[str, Any] = {}
        lines: dict[str, int] = {}
        merges = []
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain(path, "a key must be one word, not a list or mapping", key_node)
                continue
            key, line = key_node.value, key_node.start_mark.line + 1
            if key == "<<" and key_node.tag == _PLAIN:
                merges.append(value_node)
                continue
            if key in lines:
                message = f"given twice, in lines {lines[key]} and {line}; remove one of them"
                self.complain((*path, key), message, key_node)
                continue
            lines[key] = line
            self.document.places[(*path, key)] = Place(self.document.source, line)
            result[key] = self.build(value_node, (*path, key))
        for merge in merges:
            self.merge(merge, path, result)
        return result

    def merge(self, node: yaml.Node, path: KeyPath, result: dict[str, Any]) -> None:
        """Add the keys of ``<<: *anchor`` that the mapping itself does not have."""
        for child in node.value if isinstance(node, yaml.SequenceNode) else [node]:
            if not isinstance(child, yaml.MappingNode):
                self.complain(path, "<< takes a mapping, such as *anchor", child)
                continue
            beside = _Builder(self.document.source)
            beside.num_values, beside.open_nodes = self.num_values, self.open_nodes
            merged = beside.build(child, path) or {}
            self.num_values = beside.num_values
            self.document.unknown |= beside.document.unknown
            self.document.problems += beside.document.problems
            for key in merged.keys() - result.keys():
                result[key] = merged[key]
                here = (*path, key)
                known = beside.document.places.items()
                self.document.places.update({at: place for at, place in known if at[: len(here)] == here})


class _TooLargeError(Exception):
    """More values than :data:`MAX_VALUES` or deeper than :data:`MAX_DEPTH`."""


def _check_depth(text: str) -> None:
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise _TooLargeError
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


def parse_yaml(text: str, source: str) -> Document:
    """Return the mapping of a YAML text. The function never raises; ``problems`` lists the errors.

    Parameters
    ----------
    text : str
        The whole text.
    source : str
        Name of the file, for messages.
    """
    builder = _Builder(source)
    try:
        _check_depth(text)
        node = yaml.compose(text, Loader=_Loader)
        data = builder.build(node, ()) if node is not None else None
    except yaml.YAMLError as error:
        return Document(source, problems=[_explain_syntax(error, text.splitlines())])
    except _TooLargeError:
        limits = f"more than {MAX_VALUES} values, or more than {MAX_DEPTH} levels"
        return Document(source, problems=[Problem("", f"holds {limits}; a profile is short and flat")])
    except UnicodeEncodeError:
        return Document(source, problems=[Problem("", "is not UTF-8 text")])
    document = builder.document
    if isinstance(data, dict):
        document.data = data
    elif not document.problems:
        found = "is empty" if data is None else f"holds {kind_of(data)}, not a mapping"
        example = "; a profile starts with lines such as 'name: my-run'"
        document.problems.append(Problem("", found + example, None if data is None else 1))
    return document


def parse_value(text: str) -> Any:
    """Return the value of a YAML text after ``--set``: ``64``, ``1e-3``, ``[a.h5, b.h5]``, ``{seed: 1}``.

    Raises
    ------
    ValueError
        The text is not one value.
    """
    document = parse_yaml(f"value: {text}\n", "--set")
    if document.problems or document.data.keys() != {"value"}:
        document = parse_yaml(f"value:\n  {text}\n", "--set")  # such as 'a: 1' for a mapping of one key
    if document.problems:
        raise ValueError(document.problems[0].message.split(" (while")[0])  # its line numbers are not the user's
    if document.data.keys() != {"value"}:
        raise ValueError("is more than one value")
    return document.data["value"]


def _explain_syntax(error: yaml.YAMLError, lines: list[str]) -> Problem:
    """Turn PyYAML's error into one line with the number of the faulty line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    line = None if mark is None else max(1, min(mark.line + 1, len(lines)))
    what = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error).splitlines()[0]
    at_fault = lines[mark.line] if mark is not None and mark.line < len(lines) else ""
    indent = at_fault[: len(at_fault) - len(at_fault.lstrip())]
    if "\t" in indent or (what.startswith("found character") and "\t" in at_fault):
        return Problem("", "has a tab; YAML is indented with blanks", line)
    context = getattr(error, "context", None)
    began = getattr(error, "context_mark", None)
    if context and began is not None and began.line != getattr(mark, "line", None):
        what += f" ({context} from line {began.line + 1})"
    if "mapping values are not allowed" in what:
        what += "; check the indentation, and put quotes around a value with ': ' in it"
    return Problem("", f"is not YAML: {what}", line)
