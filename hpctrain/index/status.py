"""What an index holds."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from hpctrain.index import tables
from hpctrain.index.database import Database


def contents_of(database: Database) -> dict[str, Any]:
    """Return its size and, for each folder in it, the numbers of units by kind.

    Returns
    -------
    dict
        ``bytes`` (None for PostgreSQL) and ``places``: ``place`` and ``units`` by kind.

    Raises
    ------
    SiteError
        There is no index, or it does not answer.
    """
    columns = tables.units.c
    query = select(columns.place, columns.kind, func.count()).group_by(columns.place, columns.kind)
    places: dict[str, dict[str, int]] = {}
    with database.reading() as connection:
        for place, kind, number in connection.execute(query.order_by(columns.place, columns.kind)):
            places.setdefault(place, {})[kind] = number
    size = database.file.stat().st_size if database.file is not None else None
    return {"bytes": size, "places": [{"place": place, "units": units} for place, units in places.items()]}
