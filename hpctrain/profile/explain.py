"""Translate pydantic's errors into problems that say what was found, what is allowed, what to do, and the near name."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import ValidationError

from hpctrain.credentials.patterns import is_secret_key, is_secret_value
from hpctrain.errors import Problem, ProfileError
from hpctrain.profile.credentials import HIDDEN
from hpctrain.profile.document import Document, KeyPath, sort_problems
from hpctrain.profile.near import nearest
from hpctrain.profile.schema import Profile
from hpctrain.profile.sections.base import Section
from hpctrain.profile.wording import Schema, allowed, schema_at, sections
from hpctrain.words import is_number

SectionType = TypeVar("SectionType", bound=Section)

MEANT = {
    "lr": "train.learning_rate",
    "min_lr": "train.final_learning_rate",
    "max_epochs": "train.epochs",
    "steps": "train.max_steps",
    "amp": "train.precision",
    "fp16": "train.precision",
    "bf16": "train.precision",
    "mixed_precision": "train.precision",
    "grad_clip": "train.clip_norm",
    "gradient_clip": "train.clip_norm",
    "grad_accum": "train.accumulation",
    "gradient_accumulation_steps": "train.accumulation",
    "warmup": "train.warmup_steps",
    "patience": "train.early_stopping.patience",
    "workers": "data.reader_threads",
    "num_workers": "data.reader_threads",
    "file": "data.files",
    "path": "data.files",
    "dataset": "data.files",
    "gpus": "launch.gpus_per_node",
    "gres": "launch.gpus_per_node",
    "ntasks_per_node": "launch.ranks_per_node",
    "tasks_per_node": "launch.ranks_per_node",
    "ranks": "launch.ranks_per_node",
    "cpus": "launch.cpus_per_rank",
    "cpus_per_task": "launch.cpus_per_rank",
    "time": "launch.time_limit",
    "walltime": "launch.time_limit",
    "timeout": "launch.time_limit",
    "mem": "launch.memory_gib_per_node",
    "memory": "launch.memory_gib_per_node",
    "queue": "launch.partition",
    "job_name": "name",
    "keep": "checkpoint.keep_last",
    "save_every": "checkpoint.every_steps",
    "output_dir": "launch.runs_dir",
    "latent_dim": "model.latent_size",
    "kl_weight": "model.beta",
    "wandb": "track.wandb",
    "mlflow": "track.mlflow",
    "tracking_uri": "track.mlflow.tracking_uri",
}
"""Key names of other tools, and the name of the same key here."""

_OPTIMISER = "AdamW is the only optimiser; its keys are train.learning_rate, train.weight_decay, train.adam_beta1 ..."
WITHOUT_KEY = {
    "optimizer": _OPTIMISER,
    "optimiser": _OPTIMISER,
    "scheduler": "the learning rate always warms up and then follows a cosine; see train.warmup_steps",
    "lr_scheduler": "the learning rate always warms up and then follows a cosine; see train.warmup_steps",
    "shuffle": "the spectra are always shuffled, by train.seed; data.shuffle_window limits it for compressed files",
}
"""Key names of other tools for features that need no key here."""


def show(value: Any) -> str:
    """Return a value in the form that messages show: short, and never a secret."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict):
        return "a mapping"
    if holds_secret(value):
        return HIDDEN
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def holds_secret(value: Any) -> bool:
    """Return whether a value, or any entry of a list, looks like a credential."""
    if isinstance(value, list):
        return any(holds_secret(entry) for entry in value)
    return isinstance(value, str) and is_secret_value(value)


def explain(error: ValidationError, document: Document, model: type[Section]) -> tuple[list[Problem], set[KeyPath]]:
    """Translate every error of a validation.

    Returns
    -------
    problems : list of Problem
        One per key path, in the order of the schema.
    paths : set of tuple
        Key paths at fault.
    """
    problems: dict[KeyPath, Problem] = {}
    faulty: set[KeyPath] = set()
    for item in error.errors(include_url=False):
        path = _path_in_data(item, document.data)
        told_as_secret = item["type"] == "extra_forbidden" and is_secret_key(str(path[-1]))
        is_known = any(path[: len(known)] == known for known in document.unknown)
        if path not in faulty and not told_as_secret and not is_known:
            problems[path] = document.problem(path, _message(item, path, model))
        faulty.add(path)
    return list(problems.values()), faulty


def typed(document: Document, model: type[SectionType]) -> SectionType:
    """Return the plain values of a file as a section.

    Raises
    ------
    ProfileError
        The values are wrong; the message lists all problems of the document with their lines.
    """
    try:
        return model.model_validate(document.data)
    except ValidationError as error:
        problems, _ = explain(error, document, model)
        raise ProfileError(document.source, sort_problems([*document.problems, *problems])) from None


def _path_in_data(item: Any, data: Any) -> KeyPath:
    """Cut off the parts that pydantic adds after the keys: the branch of a union, ``[key]``."""
    path: list[str | int] = []
    for depth, key in enumerate(item["loc"]):
        is_missing = item["type"] == "missing" and depth == len(item["loc"]) - 1
        if isinstance(data, dict) and (key in data or is_missing):
            data = data.get(key)
        elif isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        else:
            break
        path.append(key)
    return tuple(path)


def _message(item: Any, path: KeyPath, model: type[Section]) -> str:
    kind, value = item["type"], item["input"]
    if kind == "missing":
        return _missing(path)
    if kind == "extra_forbidden":
        return unknown_key(path, model)
    if kind == "value_error":
        said = str(item["ctx"]["error"])
        return said if isinstance(value, dict) else f"{show(value)} {said}"
    node = schema_at(path, model)
    if node is None or item["loc"][-1] == "[key]":
        return f"'{path[-1]}' is not {allowed({'type': 'string', **item.get('ctx', {})})}"
    return f"found {show(value)}; must be {allowed(node)}{_hint(kind, value, node)}"


def _missing(path: KeyPath) -> str:
    examples = {"name": "name: my-run", "data": "data: {files: [spectra.h5]}", "data.files": "files: [spectra.h5]"}
    dotted = ".".join(map(str, path))
    return "is missing" + (f"; write for example '{examples[dotted]}'" if dotted in examples else "")


def unknown_key(path: KeyPath, model: type[Section]) -> str:
    """Return the message for an unknown key; it names the nearest known key, also one of another section."""
    key = str(path[-1])
    section = schema_at(path[:-1], model) or {}
    here = list(section.get("properties", {}))
    near = nearest(key, here)
    if near is not None:
        return f"unknown key; did you mean '{near}'?"
    meant = key.lower().replace("-", "_")
    if issubclass(model, Profile) and meant in WITHOUT_KEY:
        return f"unknown key; {WITHOUT_KEY[meant]}"
    elsewhere = _elsewhere(key, model)
    if elsewhere:
        return f"unknown key; did you mean {elsewhere}?"
    around = ".".join(map(str, path[:-1]))
    title = f"section '{around}'" if around else f"a {model.__name__.lower()}"
    return f"unknown key; {title} has {', '.join(here)}"


def _elsewhere(key: str, model: type[Section]) -> str | None:
    if issubclass(model, Profile) and key.lower().replace("-", "_") in MEANT:
        return MEANT[key.lower().replace("-", "_")]
    owners = {name: path for path, node in reversed(list(sections(model))) for name in node["properties"]}
    near = key if key in owners else nearest(key, owners)
    return None if near is None else ".".join((*map(str, owners[near]), near))


def _hint(kind: str, value: Any, node: Schema) -> str:
    return next((f"; {hint}" for hint in _hints(kind, value, node)), "")


def _hints(kind: str, value: Any, node: Schema) -> Iterator[str]:
    if kind == "string_type" and isinstance(value, (int, float)):
        yield f"put quotes around it: '{value}'"
    if kind == "int_from_float" or (kind == "int_type" and isinstance(value, float) and value.is_integer()):
        yield f"write {value:.0f}" if value.is_integer() else "round it"
    is_one = isinstance(value, (str, int, float)) and not isinstance(value, bool) and node.get("minItems", 0) < 2
    if kind in ("list_type", "tuple_type") and is_one:
        yield f"write [{show(value).strip(chr(39))}]"
    if isinstance(value, str) and value.lower() in ("none", "nil", "nan"):
        yield "write null for no value"
    if kind in ("int_type", "float_type") and isinstance(value, str):
        plain = value.strip().replace(",", ".") if value.count(",") == 1 else value.strip().replace(",", "")
        if is_number(plain):
            yield f"write {plain}" if plain != value else "remove the quotes"
    if kind == "literal_error":
        choices = [choice for branch in (node, *node.get("anyOf", [])) for choice in branch.get("enum", [])]
        near = nearest(str(value), choices)
        if near is not None:
            yield f"did you mean '{near}'?"
