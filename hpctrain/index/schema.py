"""Bring the tables of an index up to date with Alembic, and its views with the code."""

from __future__ import annotations

import logging
from pathlib import Path

from sqlalchemy import Connection, inspect, text

from hpctrain.errors import SiteError
from hpctrain.index import tables
from hpctrain.index.views import digest, views

HEAD = "0002"
"""Newest migration."""
LOCK = 4_706_301
"""Number of the advisory lock of PostgreSQL that writers of an index take."""
_MIGRATIONS = Path(__file__).parent / "migrations"


def is_current(connection: Connection) -> bool:
    """Return whether tables and views are those of this version of hpctrain."""
    found = _revision(connection)
    _refuse_newer(found)
    if found != HEAD:
        return False
    stored = connection.execute(text("SELECT value FROM about WHERE name = 'views'")).scalar()
    return stored == digest(connection.dialect.name)


def upgrade(connection: Connection) -> None:
    """Make the tables and views, or bring them up to date, in one transaction.

    Raises
    ------
    SiteError
        A newer version of hpctrain has made them.
    """
    with connection.begin():
        lock(connection)
        if is_current(connection):  # another process was faster
            return
        ours = [view.name for view in views(connection.dialect.name)]
        known = (
            connection.execute(text("SELECT name FROM about WHERE value = 'view'")) if _has_about(connection) else ()
        )
        for name in [*ours, *(row[0] for row in known)]:
            connection.execute(text(f'DROP VIEW IF EXISTS "{name}"'))
        _migrate(connection)
        _make_views(connection)


def lock(connection: Connection) -> None:
    """Wait until no other process writes; the end of the transaction releases it. SQLite needs no more than BEGIN."""
    if connection.dialect.name == "postgresql":
        connection.execute(text(f"SELECT pg_advisory_xact_lock({LOCK})"))


def _has_about(connection: Connection) -> bool:
    return inspect(connection).has_table("about")


def _revision(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()


def _refuse_newer(revision: str | None) -> None:
    if revision is not None and revision > HEAD:
        raise SiteError(
            f"the index has tables of a newer hpctrain (migration {revision}; this one knows {HEAD}); update hpctrain, "
            "or name another index with --index"
        )


def _migrate(connection: Connection) -> None:
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    logger = logging.getLogger("alembic")
    before, logger.disabled = logger.disabled, True
    try:
        command.upgrade(config, "head")
    finally:
        logger.disabled = before


def _make_views(connection: Connection) -> None:
    dialect = connection.dialect.name
    connection.execute(tables.about.delete())
    facts = [{"name": "views", "value": digest(dialect)}]
    for view in views(dialect):
        connection.exec_driver_sql(f'CREATE VIEW "{view.name}" AS {view.sql}')
        facts.append({"name": view.name, "value": "view"})
    connection.execute(tables.about.insert(), facts)
