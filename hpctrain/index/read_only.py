"""``hpctrain sql``: one statement of the user's own, which can read the index and nothing else.

SQLite opens the file read-only, and an authorizer allows reading and functions only. PostgreSQL reads in a read-only
transaction through a cursor, which takes exactly one SELECT.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from typing import Any

from hpctrain.errors import Problem, ProfileError, SiteError
from hpctrain.index.database import Database
from hpctrain.index.views import views
from hpctrain.profile.near import nearest

_ALLOWED = (sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ, sqlite3.SQLITE_FUNCTION, 33)
"""What a statement may do; 33 is SQLITE_RECURSIVE, which Python 3.10 does not name."""
_TOGETHER = 1000
_STEPS = 100_000
"""Number of SQLite's own instructions after which it asks whether time is over."""


def ask(database: Database, statement: str, timeout_s: float) -> Iterator[tuple[Any, ...]]:
    """Yield the names of the columns, then the rows of a statement; only some rows are in memory at once.

    Parameters
    ----------
    database : Database
    statement : str
    timeout_s : float
        Longest time for the statement [s].

    Raises
    ------
    ProfileError
        It is no statement that reads, or the database does not understand it.
    SiteError
        There is no index, it does not answer, or the time is over.
    """
    if not statement.strip():
        raise ProfileError("command line", [Problem("SQL", 'is empty; try "SELECT * FROM run_list LIMIT 10"')])
    with database.reading() as connection:
        raw = connection.connection.driver_connection
        if database.file is not None:
            yield from _ask_sqlite(raw, statement, timeout_s, database)
        else:
            yield from _ask_postgres(raw, statement, timeout_s, database)


def _ask_sqlite(raw: Any, statement: str, timeout_s: float, database: Database) -> Iterator[tuple[Any, ...]]:
    until = time.monotonic() + timeout_s
    refused: list[str] = []

    def allows(action: int, first: str | None, second: str | None, *_: Any) -> int:
        # The function that loads code into the process is switched off in SQLite, too.
        if action in _ALLOWED and second != "load_extension":
            return sqlite3.SQLITE_OK
        refused.append(first or "")
        return sqlite3.SQLITE_DENY

    raw.set_authorizer(allows)
    raw.set_progress_handler(lambda: time.monotonic() > until, _STEPS)
    try:
        cursor = raw.execute(statement)
        yield from _rows(cursor)
    except (sqlite3.Error, sqlite3.Warning) as error:
        if "interrupted" in str(error):
            raise _too_long(timeout_s) from None
        if any(word in str(error) for word in ("locked", "malformed", "not a database", "disk I/O")):
            raise
        reason = "may only read, and this statement does more" if refused else str(error)
        raise _not_understood(reason, database) from None


def _ask_postgres(raw: Any, statement: str, timeout_s: float, database: Database) -> Iterator[tuple[Any, ...]]:
    import psycopg

    raw.rollback()
    raw.execute("SET TRANSACTION READ ONLY")
    raw.execute(f"SET LOCAL statement_timeout = {max(1, int(timeout_s * 1000))}")
    try:
        with raw.cursor(name="hpctrain") as cursor:
            cursor.execute(statement)
            yield from _rows(cursor)
    except psycopg.errors.QueryCanceled:
        raise _too_long(timeout_s) from None
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        raise _not_understood(str(error), database) from None


def _rows(cursor: Any) -> Iterator[tuple[Any, ...]]:
    if cursor.description is None:
        return
    yield tuple(each[0] for each in cursor.description)
    while rows := cursor.fetchmany(_TOGETHER):
        yield from rows


def _too_long(timeout_s: float) -> SiteError:
    return SiteError(f"the statement needs more than {timeout_s:g} s; add a condition or a LIMIT, or give --timeout")


def _not_understood(reason: str, database: Database) -> ProfileError:
    names = [view.name for view in views(database.dialect)]
    first = reason.splitlines()[0] if reason else "cannot be read"
    words = first.replace('"', " ").split()
    near = next((found for word in words if (found := nearest(word, names))), None)
    hint = f"did you mean the view {near}?" if near and near not in words else f"the views are {', '.join(names)}"
    return ProfileError("command line", [Problem("SQL", f"{first}; give one SELECT; {hint}")])
