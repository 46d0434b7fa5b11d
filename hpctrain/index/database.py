"""Where the index is, and connections to it: SQLite beside the folder of runs, or PostgreSQL by URL."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from hpctrain.errors import HpctrainError, Problem, ProfileError, SiteError

if TYPE_CHECKING:
    from sqlalchemy import Connection, Engine
    from sqlalchemy.engine import URL

VARIABLE = "HPCTRAIN_INDEX"
"""Variable of the environment that names the index."""
FILE = "index.sqlite"
_CONNECT_S = 5
_LOCKED_S = 10
"""How long to wait for somebody else who writes into the index [s]."""
_CACHE_KIB = 65_536
_EMPTY = ("no such table", "UndefinedTable")
_CLOSED = ("unable to open", "readonly database", "read-only", "InsufficientPrivilege")
_DAMAGED = ("malformed", "not a database", "file is encrypted")


@dataclass(frozen=True)
class Database:
    """An index that need not exist yet.

    Parameters
    ----------
    url : str
        SQLAlchemy's URL; it may hold a password, so print `name`.
    """

    url: str

    @property
    def file(self) -> Path | None:
        """The file of an SQLite index; None for PostgreSQL."""
        found = _parsed(self.url)
        return Path(str(found.database)) if found.get_backend_name() == "sqlite" else None

    @property
    def dialect(self) -> str:
        """``sqlite`` or ``postgresql``."""
        return _parsed(self.url).get_backend_name()

    @property
    def name(self) -> str:
        """What to call it: a path, or the URL without user and password."""
        from hpctrain.credentials.urls import without_login

        return str(self.file or without_login(self.url).partition("?")[0])

    @contextlib.contextmanager
    def writing(self, is_new: bool = False) -> Iterator[Connection]:
        """Connect to write; make the file of SQLite where it is missing.

        Parameters
        ----------
        is_new : bool
            Nobody else knows the file of SQLite yet, and a half one is thrown away: do without journal and fsync.

        Raises
        ------
        SiteError
            The index does not answer, is locked or damaged.
        """
        with self.errors():
            engine = self._writer(is_new)
            try:
                with engine.connect() as connection:
                    yield connection
            finally:
                engine.dispose()

    @contextlib.contextmanager
    def reading(self) -> Iterator[Connection]:
        """Connect to read: no statement can change anything.

        Raises
        ------
        SiteError
            There is no index, or it does not answer, is locked or damaged.
        """
        if self.file is not None and not self.file.exists():
            raise SiteError(f"{self.file}: there is no index yet; make it with 'hpctrain index update'")
        with self.errors():
            engine = self._reader()
            try:
                with engine.connect() as connection:
                    yield connection
            finally:
                engine.dispose()

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what the database and its driver raise into one line without passwords."""
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except HpctrainError:
            raise
        except (SQLAlchemyError, *_driver_errors()) as error:
            raise SiteError(f"{self.name}: {self._reason(error)}") from None

    def _reason(self, error: BaseException) -> str:
        from hpctrain.search.mirror import failure_text

        text = failure_text(error, self.url)
        if any(word in text for word in _DAMAGED):
            return f"is damaged ({text}); make it again with 'hpctrain index rebuild'"
        if "locked" in text:
            return f"somebody else writes into the index ({text}); try again"
        if any(word in text for word in _EMPTY):
            return "the index has no tables yet; make them with 'hpctrain index update'"
        if any(word in text for word in _CLOSED):
            return f"cannot be opened or written ({text}); name another place with --index, or in {VARIABLE}"
        return (
            f"the index does not answer ({text}); runs go on without it, and 'hpctrain index update' catches up later"
        )

    def _writer(self, is_new: bool) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        if self.file is None:
            return create_engine(_parsed(self.url), poolclass=NullPool, connect_args=_postgres_options())
        file = self.file
        return _sqlite_engine(
            lambda: sqlite3.connect(file, timeout=_LOCKED_S, isolation_level=None), "IMMEDIATE", is_new
        )

    def _reader(self) -> Engine:
        from sqlalchemy import create_engine
        from sqlalchemy.pool import NullPool

        if self.file is None:
            options = _postgres_options(" -c default_transaction_read_only=on")
            return create_engine(_parsed(self.url), poolclass=NullPool, connect_args=options)
        _finish_killed_writer(self.file)
        address = f"file:{quote(str(self.file))}?mode=ro"
        return _sqlite_engine(
            lambda: sqlite3.connect(address, uri=True, timeout=_LOCKED_S, isolation_level=None), "DEFERRED"
        )


def _sqlite_engine(connect: Any, begin: str, is_new: bool = False) -> Engine:
    """Return an engine whose transactions are those of SQLite, not those that Python's module guesses."""
    from sqlalchemy import create_engine, event
    from sqlalchemy.pool import NullPool

    engine = create_engine("sqlite://", creator=connect, poolclass=NullPool)

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: Any) -> None:
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        if is_new:
            connection.execute("PRAGMA journal_mode = OFF")
            connection.execute("PRAGMA synchronous = OFF")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(f"BEGIN {begin}")

    return engine


def _finish_killed_writer(file: Path) -> None:
    """Let SQLite undo what a killed writer left unfinished: who only reads may not do it."""
    if not Path(f"{file}-journal").exists():
        return
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(file, timeout=_LOCKED_S)) as connection:
        connection.execute("SELECT count(*) FROM sqlite_master").fetchone()


def _postgres_options(more: str = "") -> dict[str, Any]:
    return {
        "connect_timeout": _CONNECT_S,
        "application_name": "hpctrain",
        "options": f"-c lock_timeout={_LOCKED_S * 1000}{more}",
    }


def _driver_errors() -> tuple[type[BaseException], ...]:
    try:
        import psycopg
    except ImportError:
        return (sqlite3.Error, OSError)
    return (sqlite3.Error, psycopg.Error, OSError)


def database_at(given: str | None, runs_dir: Path) -> Database:
    """Return the index that a user means.

    Parameters
    ----------
    given : str or None
        A file of SQLite or a URL; if None, that of the variable HPCTRAIN_INDEX, else ``index.sqlite`` beside the folder
        of runs.
    runs_dir : Path

    Raises
    ------
    ProfileError
        It is no URL of SQLite or PostgreSQL, or has a password on the command line, where everybody sees it.
    SiteError
        A package is missing.
    """
    _need_sqlalchemy()
    variable = os.environ.get(VARIABLE)
    text = given or variable or str(runs_dir.expanduser().absolute().parent / FILE)
    where = "--index" if given else VARIABLE
    if "://" not in text:
        return Database(f"sqlite:///{Path(text).expanduser().absolute()}")
    scheme, _, rest = text.partition("://")
    if scheme in ("postgres", "postgresql"):
        text = f"postgresql+psycopg://{rest}"
    url = _url_of(text, where)
    if given and url.password is not None:
        message = (
            "has a password, and everybody on this machine sees command lines; leave it out and put it into ~/.pgpass "
            f"or PGPASSWORD, or set {VARIABLE} to the whole URL"
        )
        raise ProfileError("command line", [Problem(where, message)])
    if url.get_backend_name() == "postgresql":
        _need_psycopg()
    return Database(text)


def _url_of(text: str, where: str) -> URL:
    from sqlalchemy.exc import ArgumentError

    try:
        url = _parsed(text)
    except (ArgumentError, ValueError):
        url = None
    if url is None or url.drivername not in ("sqlite", "postgresql+psycopg") or not url.database:
        message = "is no index; give a file, such as index.sqlite, or postgresql://USER@HOST:PORT/DATABASE"
        raise ProfileError("command line", [Problem(where, message)])
    return url


def _parsed(text: str) -> URL:
    from sqlalchemy.engine import make_url

    return make_url(text)


def _need_sqlalchemy() -> None:
    _need("sqlalchemy")


def _need_psycopg() -> None:
    _need("psycopg")


def _need(package: str) -> None:
    from importlib.util import find_spec

    if find_spec(package) is None:
        raise SiteError(
            f"the package {package} is not installed, and the index needs it: pip install 'hpctrain[index]'"
        )
