"""The contract of an opened file: named arrays with shapes and units, a header, and the axis of an image."""

from __future__ import annotations

import functools
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hpctrain.errors import DataError

_INDEXED = re.compile(r"^(.*)\[(\d+)\]$")
HEADER = "header:"


@dataclass(frozen=True)
class Item:
    """One named array of a file.

    Parameters
    ----------
    name : str
        As a user writes it behind ``--column OURS=``.
    shape : tuple of int
    unit : str
        As the file states it; empty where it states none.
    is_ragged : bool
        Each row is a vector of its own length.
    is_image : bool
        An image HDU, whose header may say which wavelength a pixel has.
    place : object
        Where the store finds the array.
    """

    name: str
    shape: tuple[int, ...]
    unit: str = ""
    is_ragged: bool = False
    is_image: bool = False
    place: Any = None


class Store(ABC):
    """One opened file, or one part of a file that holds several sets of spectra.

    Attributes
    ----------
    kind : str
        What the file is, in a word, for messages.
    items : dict of Item
        By name, in the order of the file.
    defaults : dict of str
        Ours: theirs, for files whose format says what is what.
    advice : str
        Another command that reads such files better; empty if there is none.
    """

    kind = "file"
    advice = ""

    def __init__(self) -> None:
        self.items: dict[str, Item] = {}
        self.defaults: dict[str, str] = {}

    @functools.cached_property
    def header(self) -> Dictionary[str, Any]:
        """Keywords or attributes; none unless the kind of file has some."""
        return {}

    @abstractmethod
    def close(self) -> None:
        """Close the file."""

    @abstractmethod
    def read(self, item: Item, rows: slice | None = None) -> np.ndarray:
        """Return the values of an item, of all rows or of some."""

    def axis(self, item: Item, numpy_axis: int) -> Dictionary[str, Any] | None:
        """Return the header cards that may give the wavelengths along an axis of an image, or None."""
        return None

    def find(self, name: str) -> Field | None:
        """Find an array by the name that a user wrote, ``[k]`` behind it included; None if there is none."""
        item = self._find_item(name)
        if item is not None:
            return Field(self, item)
        indexed = _INDEXED.match(name)
        item = self._find_item(indexed.group(1)) if indexed else None
        if item is None or item.is_ragged:
            return None
        return Field(self, item, int(indexed.group(2)))

    def header_value(self, keyword: str) -> Any:
        """Return a keyword of the header (any case), or None."""
        value = self.header.get(keyword)
        if value is None:
            value = next((each for key, each in self.header.items() if key.lower() == keyword.lower()), None)
        return value

    def _find_item(self, name: str) -> Item | None:
        if name in self.items:
            return self.items[name]
        folded = [item for key, item in self.items.items() if key.lower() == name.lower()]
        return folded[0] if len(folded) == 1 else None


@dataclass
class Field:
    """An item of a store, or one plane of it, without axes of length 1 (except that of the spectra).

    Parameters
    ----------
    store : Store
    item : Item
    index : int, optional
        Plane of the first axis.
    """

    store: Store
    item: Item
    index: int | None = None
    _whole: np.ndarray | None = field(default=None, repr=False)

    @property
    def name(self) -> str:
        """The name as a user writes it."""
        return self.item.name if self.index is None else f"{self.item.name}[{self.index}]"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape without the plane's axis, and without axes of length 1 beyond two."""
        shape = self.item.shape
        if self.index is not None:
            if not shape or self.index >= shape[0]:
                raise DataError(f"{self.item.name} has shape {shape}, so it has no plane [{self.index}]")
            shape = shape[1:]
        return _squeezed(shape)

    @property
    def can_read_rows(self) -> bool:
        """Whether some rows can be read without the others."""
        return self.index is None and len(self.item.shape) == 2

    def read(self, rows: slice | None = None) -> np.ndarray:
        """Return all values, or those of some rows of the first axis of `shape`."""
        if rows is not None and self.can_read_rows:
            return self.store.read(self.item, rows)
        if self._whole is None:
            values = self.store.read(self.item)
            values = values if self.index is None else values[self.index]
            self._whole = values if self.item.is_ragged else np.reshape(values, self.shape)
        return self._whole if rows is None else self._whole[rows]


def _squeezed(shape: tuple[int, ...]) -> tuple[int, ...]:
    while len(shape) > 2 and 1 in shape:
        axis = shape.index(1)
        shape = shape[:axis] + shape[axis + 1 :]
    return shape


def describe_items(store: Store, most: int = 60) -> str:
    """Return the names of a store's arrays with their shapes, for messages; names of one shape together."""
    by_shape: dict[str, list[str]] = {}
    for item in unique_items(store):
        by_shape.setdefault(shape_text(item), []).append(f"{item.name} [{item.unit}]" if item.unit else item.name)
    parts = []
    for shape, names in by_shape.items():
        more = f" and {len(names) - most} more" if len(names) > most else ""
        parts.append(f"{shape}: {', '.join(names[:most])}{more}")
    return "; ".join(parts) if parts else "no arrays"


def unique_items(store: Store) -> list[Item]:
    """Return the arrays of a store, each once although it may have several names."""
    return list({id(item): item for item in store.items.values()}.values())


def shape_text(item: Item) -> str:
    """Return a shape as people read it: 4300, or 984 x 4300, or 12 of any length."""
    sizes = " x ".join(map(str, item.shape)) or "one value"
    return f"{sizes} x any length" if item.is_ragged else sizes
