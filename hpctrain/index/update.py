"""Bring an index up to date with the disk, or make it again."""

from __future__ import annotations

import contextlib
import secrets
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Table, bindparam, delete, func, select

from hpctrain.errors import SiteError
from hpctrain.files import put_aside
from hpctrain.index import tables
from hpctrain.index.database import Database
from hpctrain.index.reading import Read, read_all
from hpctrain.index.rows import Rows
from hpctrain.index.schema import is_current, lock, upgrade
from hpctrain.index.units import Place, Unit, place_of

_UNITS_TOGETHER = 200
_ROWS_TOGETHER = 30_000
"""Largest number of rows that wait to be written."""
_IDS_TOGETHER = 500
_MANY = 100
"""Number of units that make a change a large one."""
_KILLED_S = 3600.0
_OF_UNIT = [*tables.OWNER.items(), (tables.units, "id")]
"""Tables with rows of a unit, and the column with its id."""


@dataclass
class Updated:
    """What an update has done.

    Parameters
    ----------
    read, unchanged, removed : int
        Numbers of units: runs, studies, pipelines, models of a registry, audit trails.
    failed : list of str
        Units that could not be read, and why.
    seconds : float
        How long it took.
    """

    read: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: list[str] = field(default_factory=list)
    seconds: float = 0.0


def update(database: Database, places: Sequence[Place]) -> Updated:
    """Read what has changed since the last time, and write it into the index.

    What is written stays if the process is killed; the next update goes on. Others may write at the same time.

    Parameters
    ----------
    database : Database
    places : sequence of Place
        Folders to look at; what the index knows of other folders stays.

    Raises
    ------
    SiteError
        There is nothing to read, the index does not answer, or a folder that it knows is gone.
    """
    began, done = time.monotonic(), Updated()
    if not any(place.path.exists() for place in places):
        raise SiteError(f"{places[0].path}: there is no such folder; name the folder of runs with --runs-dir")
    with database.writing() as connection:
        if not _is_current(connection):
            upgrade(connection)
        known = _known(connection, places)
    _refuse_missing(places, known)
    changed = _changed(places, known, done)
    if changed or known:
        with contextlib.closing(read_all(changed)) as parts, database.writing() as connection:
            writer = _Writer(connection, done)
            for part in parts:
                writer.write(part)
            writer.flush()
            writer.remove(list(known))
            _look_over(connection, done)
    done.seconds = time.monotonic() - began
    return done


def _changed(places: Sequence[Place], known: dict[int, tuple[str, str]], done: Updated) -> list[Unit]:
    """Return what must be read, and leave in `known` what is no longer there.

    A registry or a folder of pipelines that may not be read hides no run: what the index knows of it stays.
    """
    changed = []
    for place in places:
        try:
            for unit in place.units():
                before, _ = known.pop(unit.id, ("", ""))
                if before == unit.fingerprint and not unit.fingerprint.endswith("?"):
                    done.unchanged += 1
                else:
                    changed.append(unit)
        except (OSError, SiteError) as error:
            if place is places[0]:
                raise _unreadable(place, error) from error
            done.failed.append(str(_unreadable(place, error)))
            for unit_id in [each for each, (_, path) in known.items() if path == str(place.path)]:
                del known[unit_id]
    return changed


def rebuild(database: Database, places: Sequence[Place]) -> Updated:
    """Make the index again from the disk: from the given folders, and all others that it knows.

    Those who read it meanwhile see the old one until the new one is whole.

    Raises
    ------
    SiteError
        As of :func:`update`.
    """
    began, done = time.monotonic(), Updated()
    places = list(dict.fromkeys([*places, *_known_places(database)]))
    if database.file is None:
        with database.writing() as connection:
            if not _is_current(connection):
                upgrade(connection)
            with connection.begin():
                lock(connection)
                for table in [*tables.OWNER, tables.units]:
                    connection.execute(delete(table))
                _fill(connection, places, done)
            _look_over(connection, done)
    else:
        _rebuild_file(database, places, done)
    done.seconds = time.monotonic() - began
    return done


def _rebuild_file(database: Database, places: Sequence[Place], done: Updated) -> None:
    """Fill a new file, and copy it over the old one as SQLite copies: with locks, whole or not at all."""
    file = database.file
    assert file is not None
    _forget_killed(file)
    new = file.with_name(f".{file.name}.{secrets.token_hex(8)}.tmp")
    try:
        with Database(f"sqlite:///{new}").writing(is_new=True) as connection:
            upgrade(connection)
            with connection.begin():
                _fill(connection, places, done)
            _look_over(connection, done)
        with database.errors():
            _copy(new, file)
    finally:
        for each in (new, Path(f"{new}-journal")):
            each.unlink(missing_ok=True)


def _look_over(connection: Connection, done: Updated) -> None:
    """Let the database count what it holds, after large changes, so that it finds the best way to answer."""
    if done.read + done.removed < _MANY:
        return
    with connection.begin():
        if connection.dialect.name == "sqlite":
            connection.exec_driver_sql("PRAGMA analysis_limit = 400")
        connection.exec_driver_sql("ANALYZE")


def _forget_killed(file: Path) -> None:
    """Remove the new files of rebuilds that were killed; one that is at work is younger."""
    for path in file.parent.glob(f".{file.name}.*.tmp*"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _KILLED_S:
                path.unlink()


def _copy(new: Path, file: Path) -> None:
    try:
        _backup(new, file)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError):
            raise
        put_aside(file)
        if Path(f"{file}-journal").exists():
            put_aside(Path(f"{file}-journal"))
        _backup(new, file)


def _backup(new: Path, file: Path) -> None:
    with contextlib.closing(sqlite3.connect(new)) as source, contextlib.closing(sqlite3.connect(file)) as target:
        target.execute("PRAGMA busy_timeout = 30000")
        target.execute("SELECT count(*) FROM sqlite_master").fetchone()
        source.backup(target)


def _fill(connection: Connection, places: Sequence[Place], done: Updated) -> None:
    writer = _Writer(connection, done, own_transactions=False)
    with contextlib.closing(read_all(list(_units(places)))) as parts:
        for part in parts:
            writer.write(part)
    writer.flush()


def _units(places: Sequence[Place]) -> Iterator[Unit]:
    for place in places:
        try:
            yield from place.units()
        except OSError as error:
            raise _unreadable(place, error) from error


def _unreadable(place: Place, error: OSError | SiteError) -> SiteError:
    if isinstance(error, SiteError):
        return error
    return SiteError(f"{error.filename or place.path}: cannot be read: {error.strerror}")


def _is_current(connection: Connection) -> bool:
    current = is_current(connection)
    connection.rollback()
    return current


def _known(connection: Connection, places: Iterable[Place]) -> dict[int, tuple[str, str]]:
    """Return fingerprint and place of each unit that the index knows in some places."""
    paths = [str(place.path) for place in places]
    columns = tables.units.c
    query = select(columns.id, columns.fingerprint, columns.place).where(columns.place.in_(paths))
    found = {row[0]: (row[1], row[2]) for row in connection.execute(query)}
    connection.rollback()
    return found


def _known_places(database: Database) -> list[Place]:
    """Return the folders that an index covers; none if there is no index yet, or a damaged one."""
    if database.file is not None and not database.file.exists():
        return []
    try:
        with database.reading() as connection:
            query = select(tables.units.c.place, func.min(tables.units.c.kind)).group_by(tables.units.c.place)
            return [place_of(row[1], row[0]) for row in connection.execute(query)]
    except SiteError:
        return []


def _refuse_missing(places: Iterable[Place], known: dict[int, tuple[str, str]]) -> None:
    """Refuse to forget everything because a file system is not mounted."""
    for place in places:
        num_known = sum(path == str(place.path) for _, path in known.values())
        if num_known and not place.path.exists():
            raise SiteError(
                f"{place.path}: is gone, and the index knows {num_known} entries of it; if it is gone for good, "
                "'hpctrain index rebuild' forgets them"
            )


class _Writer:
    """Writes units together, in transactions of bounded size.

    Parameters
    ----------
    connection : Connection
    done : Updated
    own_transactions : bool
        Whether to commit what is written together; if False, the caller has begun a transaction.
    """

    def __init__(self, connection: Connection, done: Updated, own_transactions: bool = True) -> None:
        self._connection, self._done, self._own = connection, done, own_transactions
        self._rows = Rows()
        self._old: list[int] = []
        self._begun: set[int] = set()
        """Units of which only a part is written; they have no fingerprint yet, so a kill has them read again."""
        self._num_units = 0

    def write(self, part: Read) -> None:
        """Take a part of a unit, to write it with the next ones."""
        unit = part.unit
        if part.is_gone:
            return
        if part.failure:
            self._done.failed.append(part.failure)
        if self._own and unit.id not in self._begun:  # another process may have written it meanwhile
            self._old.append(unit.id)
        self._rows.extend(part.rows)
        if not part.is_last:
            self._begun.add(unit.id)
            if len(self._rows) >= _ROWS_TOGETHER:
                self.flush()
            return
        self._begun.discard(unit.id)
        self._mark(unit, unit.fingerprint)
        self._done.read += 1
        self._num_units += 1
        if self._num_units >= _UNITS_TOGETHER or len(self._rows) >= _ROWS_TOGETHER:
            self.flush()

    def _mark(self, unit: Unit, fingerprint: str) -> None:
        facts = {"kind": unit.kind, "place": unit.place, "path": unit.path, "fingerprint": fingerprint}
        self._rows.add(tables.units, id=unit.id, **facts)

    def flush(self) -> None:
        """Write what waits, in one transaction."""
        with self._transaction():
            self._delete(self._old)
            for name, rows in self._rows.of.items():
                insert(self._connection, tables.metadata.tables[name], rows)
        self._rows, self._old, self._num_units = Rows(), [], 0

    def remove(self, ids: list[int]) -> None:
        """Remove units that are no longer on the disk."""
        for begin in range(0, len(ids), _IDS_TOGETHER):
            with self._transaction():
                self._delete(ids[begin : begin + _IDS_TOGETHER])
        self._done.removed += len(ids)

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        if not self._own:
            yield
            return
        with self._connection.begin():
            lock(self._connection)
            yield

    def _delete(self, ids: list[int]) -> None:
        if not ids:
            return
        for table, column in _OF_UNIT:
            chosen = table.c[column].in_(bindparam("ids", expanding=True))
            self._connection.execute(delete(table).where(chosen), {"ids": ids})


def insert(connection: Connection, table: Table, rows: list[tuple[Any, ...]]) -> None:
    """Insert rows, whose values are in the order of the table's columns, as fast as the database can."""
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    if connection.dialect.name == "sqlite":
        marks = ", ".join("?" * len(table.columns))
        connection.exec_driver_sql(f'INSERT INTO "{table.name}" ({names}) VALUES ({marks})', rows)
        return
    with connection.connection.cursor() as cursor, cursor.copy(f'COPY "{table.name}" ({names}) FROM STDIN') as copy:
        for row in rows:
            copy.write_row(row)
