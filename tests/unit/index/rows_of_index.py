"""New indexes, and all rows of an index, to compare two of them."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import Any

from filled_folder import places_in
from sqlalchemy import select

from hpctrain.index import tables
from hpctrain.index.database import Database, database_at
from hpctrain.index.schema import upgrade
from hpctrain.index.update import update


@cache
def _empty() -> bytes:
    """Return an index without rows: Alembic needs a tenth of a second for it."""
    with tempfile.TemporaryDirectory() as folder:
        database = database_at(f"{folder}/empty.sqlite", Path(folder))
        with database.writing() as connection:
            upgrade(connection)
        return Path(f"{folder}/empty.sqlite").read_bytes()


def fresh_index(folder: Path, file: Path) -> Database:
    """Return a new index of a folder, in a file."""
    file.write_bytes(_empty())
    database = database_at(str(file), folder / "runs")
    update(database, places_in(folder))
    return database


def all_rows(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of each table, sorted; of the units all but their fingerprints, which may say "look again"."""
    found = {}
    with database.reading() as connection:
        for table in [*tables.OWNER, tables.units, tables.about]:
            columns = [column for column in table.columns if column.name != "fingerprint"]
            found[table.name] = sorted(map(tuple, connection.execute(select(*columns))), key=repr)
    return found


def new_rows(folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return the rows of a new index of a folder."""
    return all_rows(fresh_index(folder, folder / "fresh.sqlite"))
