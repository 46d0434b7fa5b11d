"""Columns that tell a model which object it sees, or what its label is, rather than what the object is like.

No torch here.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

ID_NAMES = re.compile(
    r"(^|[_/])(id|ids|index|idx|row|rowid|name|plate|plateid|mjd|fiber|fiberid|fibre|fibreid|run|rerun|camcol|field"
    r"|tile|tileid|healpix|petal|specobj)$"
    r"|(obj|spec|target|source|star|photo|best|bestobj|specobj|gaia|fiber|field|run|plate|tile)_?id$",
    re.IGNORECASE,
)
"""Names of columns that identify an object or its observation."""

REDSHIFT_NAMES = re.compile(
    r"(^|[_/])(redshift|z_?(spec|err|warn|warning|best|true|phot|hp|fit|pipe|vi|noqso|dr\d+q?)|zs|zb|(spec|true|photo)_?z"
    r"|redshift_?\w*|cz|velocity|vel|rv)$",
    re.IGNORECASE,
)
"""Names of columns that hold a redshift, or belong to one."""

CLASS_NAMES = re.compile(
    r"(^|[_/])((sub|spec|obj|true|src)?_?(class|type)|label|labels|category|target_?bits?|(desi|bgs|mws|eboss|boss)_target\d?"
    r"|sourcetype|programname|morph(ology)?_?(class|type))$",
    re.IGNORECASE,
)
"""Names of columns that hold a class, or the reason why an object was observed."""

Z_NAMES = re.compile(r"^(z|z_?err(or)?|err(or)?_?z|e_?z|z_?(sigma|unc))$", re.IGNORECASE)
"""Names that mean a redshift, or a magnitude in the band z where other bands are beside it."""

BAND_NAMES = frozenset("ugriyjhkbv")
"""Names of other bands, in lower case."""

FEWEST_TO_JUDGE = 50
"""Smallest number of values from which a column is called an identifier."""


def has_name_of_id(name: str) -> bool:
    """Return whether a column is called like an identifier."""
    return ID_NAMES.search(name) is not None


def name_gives_away(name: str, label: str, kind: str, others: Collection[str] = ()) -> str | None:
    """Return why the name of an input suggests that it holds the label; None if it does not.

    Parameters
    ----------
    name : str
        Name of a column that the model reads.
    label : str
        Name of the column that it learns.
    kind : str
        Kind of the label: ``class``, ``value``, ``circular`` or ``density``.
    others : collection of str
        Names of all columns that the model reads.
    """
    short, learned = name.rsplit("/", 1)[-1].lower(), label.rsplit("/", 1)[-1].lower()
    if short == learned:
        return "is the label itself"
    if len(learned) > 1 and re.search(rf"(^|_){re.escape(learned)}(_|$)", short):
        return f"is named after the label '{label}'"
    if Z_NAMES.match(short) and len(BAND_NAMES & {other.lower() for other in others}) > 1:
        return None
    is_redshift = REDSHIFT_NAMES.search(label) is not None or learned == "z"
    if kind != "class" and is_redshift and (REDSHIFT_NAMES.search(name) or Z_NAMES.match(short)):
        return f"is called like a redshift, and the label '{label}' is one"
    if kind == "class" and CLASS_NAMES.search(name):
        return "is called like a class, and the label is one"
    return None


def looks_like_id(values: np.ndarray) -> bool:
    """Return whether a column (N,) has whole numbers that are all different, as identifiers and row numbers have."""
    import numpy as np  # not for a check of names

    known = values[np.isfinite(values)].astype(np.float64)
    if len(known) < FEWEST_TO_JUDGE or not np.array_equal(known, np.round(known)):
        return False
    return len(np.unique(known)) == len(known)
