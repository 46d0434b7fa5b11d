"""Propose a profile for a file, from its own columns: kind, family, labels, inputs, sensible values. No torch here."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from hpctrain.errors import DataError
from hpctrain.kinds.guess import CATALOGUE, IMAGES, LIGHT_CURVES, SPECTRA, guess_kind
from hpctrain.kinds.images.layout import OTHER_NAMES as OF_IMAGES
from hpctrain.kinds.light_curves.layout import BANDS, OFFSETS, OWN_NAMES
from hpctrain.kinds.spectra.layout import OTHER_NAMES as OF_SPECTRA

FAMILIES_OF = {
    SPECTRA: ("spectral_cnn", "spectral_vae"),
    IMAGES: ("image_cnn",),
    LIGHT_CURVES: ("light_curve_transformer",),
    CATALOGUE: ("trees", "clusters"),
}
"""Shipped families of each kind; the first one learns labels."""
WITHOUT_LABELS = ("spectral_vae", "clusters")
CLASS, VALUE, DENSITY = "class", "value", "density"

_LOOKED_AT = 5000
"""Number of rows that are read of each column."""
_MOST_CLASSES = 30
_COORDINATE = re.compile(
    r"(ra|dec|glon|glat|l|b)(_?deg)?$|(^|_)(x|y|plate|mjd|fiber|field|run|camcol)(_|$)", re.IGNORECASE
)
_IDENTIFIER = re.compile(r"(^|_)(id|objid|targetid|source_file|number)s?$|id$", re.IGNORECASE)
_REDSHIFT = re.compile(r"^(true_)?(z|zs|redshift|z_?spec|z_?true|spec_?z|z_?phot)$", re.IGNORECASE)
_LIKELY_LABEL = re.compile(r"class|type|label|subclass|kind|^lens$", re.IGNORECASE)
_ERROR_OF = (r"(.+?)_?err(?:or)?", r"err(?:or)?_?(.+)", r"e_?(.+)", r"sigma_?(.+)", r"(.+?)_?sigma")


@dataclass(frozen=True)
class Column:
    """A column of one value per object.

    Parameters
    ----------
    name : str
    is_text : bool
    num_values : int
        Number of different values among the first rows, without missing ones.
    is_whole : bool
        Whether all of them are whole numbers.
    """

    name: str
    is_text: bool
    num_values: int
    is_whole: bool


@dataclass(frozen=True)
class Found:
    """What a file holds.

    Parameters
    ----------
    path : Path
    kind : str
    num_objects : int
    columns : list of Column
    bands : list of str
        Of light curves.
    num_points : int
        Number of points that 95 % of the light curves do not exceed; 0 for other kinds.
    renamed : dict
        Name of a dataset of ours to its name in the file, where they differ.
    """

    path: Path
    kind: str
    num_objects: int
    columns: list[Column]
    bands: list[str]
    num_points: int
    renamed: dict[str, str]

    def column(self, name: str) -> Column:
        """Return a column by its name.

        Raises
        ------
        DataError
            There is none.
        """
        found = next((column for column in self.columns if column.name == name), None)
        if found is None:
            there = ", ".join(column.name for column in self.columns) or "none"
            raise DataError(f"{self.path}: has no column '{name}'; there is {there}")
        return found


def look_at(path: Path) -> Found:
    """Return what a file holds, from the first rows of its columns.

    Raises
    ------
    DataError
        It is missing or damaged.
    """
    kind = guess_kind(path)
    if kind == CATALOGUE:
        from hpctrain.kinds.catalogue.tables import open_table

        table = open_table(path)
        columns = [_column(name, np.asarray(table.get(name)[:_LOOKED_AT])) for name in table.names]
        return Found(path, kind, table.num_rows, columns, [], 0, {})
    return _look_at_hdf5(path, kind)


def _look_at_hdf5(path: Path, kind: str) -> Found:
    import h5py

    with h5py.File(path, "r", locking=False) as file:
        there = {name: item for name, item in file.items() if isinstance(item, h5py.Dataset)}
        if kind == LIGHT_CURVES:
            count, own = len(there[OFFSETS]) - 1, set(OWN_NAMES)
            counts = np.diff(there[OFFSETS][...])
            bands = [name.decode() if isinstance(name, bytes) else str(name) for name in there[BANDS][...]]
            points, renamed = int(np.percentile(counts, 95)) if count else 0, {}
        else:
            others = OF_SPECTRA if kind == SPECTRA else OF_IMAGES
            renamed = _renamed(there, others)
            main = "flux" if kind == SPECTRA else "image"
            count, bands, points = len(there[renamed.get(main, main)]), [], 0
            own = {*others, *renamed.values(), BANDS} - {"redshift"}
        names = [name for name, item in there.items() if item.shape == (count,) and name not in own]
        columns = [_column(name, there[name][:_LOOKED_AT]) for name in names]
    return Found(path, kind, count, columns, bands, points, renamed)


def _renamed(there: Mapping[str, Any], others: Mapping[str, Sequence[str]]) -> dict[str, str]:
    found = {}
    for ours, theirs in others.items():
        name = next((name for name in theirs if name in there), None)
        if ours not in there and name is not None:
            found[ours] = name
    return found


def _column(name: str, values: np.ndarray) -> Column:
    if values.dtype.kind in "SUO":
        texts = {text for value in values.tolist() if (text := _text(value).strip())}
        return Column(name, True, len(texts), False)
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    is_whole = bool(len(finite)) and bool(np.all(finite == np.round(finite)))
    return Column(name, False, len(np.unique(finite)), is_whole)


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def possible_labels(found: Found) -> dict[str, str]:
    """Return the columns that a model could learn, likely ones first, and how: ``class``, ``value`` or ``density``."""
    labels = {}
    for column in found.columns:
        if _is_identifier(column) or _COORDINATE.search(column.name) or _error_of(column.name, found):
            continue
        is_class = 2 <= column.num_values <= _MOST_CLASSES and (column.is_text or column.is_whole)
        if is_class:
            labels[column.name] = CLASS
        elif not column.is_text and column.num_values > 1:
            labels[column.name] = DENSITY if _is_redshift(column, found) else VALUE
    return dict(sorted(labels.items(), key=lambda item: not _is_likely(item[0], item[1])))


def likely_labels(found: Found) -> list[str]:
    """Return the columns that are probably meant to be learnt: classes and redshifts."""
    return [name for name, how in possible_labels(found).items() if _is_likely(name, how)][:2]


def _is_likely(name: str, how: str) -> bool:
    return how == DENSITY or (how == CLASS and _LIKELY_LABEL.search(name) is not None)


def _is_redshift(column: Column, found: Found) -> bool:
    """Return whether a column holds redshifts; ``z`` beside ``i`` is a magnitude."""
    names = {other.name.lower() for other in found.columns}
    return _REDSHIFT.match(column.name) is not None and not (column.name.lower() == "z" and {"r", "i"} <= names)


def _is_identifier(column: Column) -> bool:
    return column.is_whole and column.num_values > _MOST_CLASSES and _IDENTIFIER.search(column.name) is not None


def _error_of(name: str, found: Found) -> str | None:
    """Return the column whose error a column is, or None."""
    names = {column.name.lower(): column.name for column in found.columns}
    for pattern in _ERROR_OF:
        match = re.fullmatch(pattern, name, re.IGNORECASE)
        if match and match[1].lower() in names and names[match[1].lower()] != name:
            return names[match[1].lower()]
    return None


@dataclass(frozen=True)
class Wishes:
    """What a user wants.

    Parameters
    ----------
    name : str
    family : str
    labels : list of str
    gpus : int
        On each node; 0 trains on CPUs.
    nodes : int
    site : str or None
    """

    name: str
    family: str
    labels: list[str]
    gpus: int
    nodes: int
    site: str | None


def propose(found: Found, wishes: Wishes) -> dict[str, Any]:
    """Return the sections of a profile.

    Raises
    ------
    DataError
        A label is not among the columns, or cannot be learnt; a table has no columns to learn from.
    """
    launch: dict[str, Any] = {"gpus_per_node": wishes.gpus, "nodes": wishes.nodes}
    if not wishes.gpus:
        launch |= {"ranks_per_node": 1, "cpus_per_rank": 2}
    launch |= {"time_limit": "04:00:00"} | ({"site": wishes.site} if wishes.site else {})
    data: dict[str, Any] = {"files": [str(found.path)]} | _OF_KIND[found.kind](found, wishes)
    model: dict[str, Any] = {"family": wishes.family}
    if wishes.family not in WITHOUT_LABELS:
        model["labels"] = [_label(found, name) for name in wishes.labels]
    sections: dict[str, Any] = {"name": wishes.name, "launch": launch, "data": data, "model": model}
    return sections | {"train": _train(found, wishes)} | {"checkpoint": {"keep_last": 3}}


def _of_files(found: Found, wishes: Wishes) -> dict[str, Any]:
    columns = {ours: theirs for ours, theirs in found.renamed.items() if ours != "target_id" or theirs}
    return {"columns": columns} if columns else {}


def _of_curves(found: Found, wishes: Wishes) -> dict[str, Any]:
    return {"bands": found.bands, "max_points": int(min(512, max(32, 2 ** np.ceil(np.log2(max(1, found.num_points))))))}


def _of_table(found: Found, wishes: Wishes) -> dict[str, Any]:
    likely = {*wishes.labels, *likely_labels(found)}
    errors = {of: column.name for column in found.columns if (of := _error_of(column.name, found)) is not None}
    features = [
        column.name
        for column in found.columns
        if not (column.is_text or _is_identifier(column) or _COORDINATE.search(column.name))
        and column.name not in likely
        and column.name not in errors.values()
        and column.num_values > 1
    ]
    if not features:
        raise DataError(f"{found.path}: has no column of numbers to learn from, beside labels, errors and coordinates")
    kept = {of: name for of, name in errors.items() if of in features}
    return {"features": features} | ({"errors": kept} if kept and wishes.family == "trees" else {})


_OF_KIND: Mapping[str, Callable[[Found, Wishes], dict[str, Any]]] = {
    SPECTRA: _of_files,
    IMAGES: _of_files,
    LIGHT_CURVES: _of_curves,
    CATALOGUE: _of_table,
}


def _label(found: Found, name: str) -> dict[str, Any]:
    how = possible_labels(found).get(name)
    column = found.column(name)
    if how is None and column.is_text:
        raise DataError(f"{found.path}: {name}: has {column.num_values} different texts, which are no classes to learn")
    label: dict[str, Any] = {"column": name, "kind": how or VALUE}
    return label | ({"spacing": "log1p"} if how == DENSITY else {})


def _train(found: Found, wishes: Wishes) -> dict[str, Any]:
    """Return batch size, length and learning rate: some 50 steps per epoch at least, 32 to 256 samples per rank."""
    if found.kind == CATALOGUE:
        return {"batch_size": 1024}
    ranks = max(1, wishes.gpus) * wishes.nodes
    fitting = 2 ** int(np.log2(max(1, found.num_objects / (50 * ranks))))
    batch = int(min(256 if wishes.gpus else 64, max(16, fitting)))
    steps = max(1, found.num_objects // (batch * ranks))
    epochs = int(min(100, max(10, np.ceil(5000 / steps))))
    return {
        "batch_size": batch,
        "epochs": epochs,
        "learning_rate": 1e-3,
        "warmup_steps": int(min(500, max(20, steps))),
        "evaluate_every_steps": int(max(20, steps)),
    }
