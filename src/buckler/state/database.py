"""Databases of the stores: SQLite files by default, PostgreSQL by URL; Alembic creates and upgrades the tables.

A store is a set of tables with its own migrations in ``migrations/<store>`` and its own version table, so that several
stores can share a database. Migrations are numbered files that run in order; the last one is the current schema.
"""

import logging
import re
import sqlite3
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal, Self

import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from buckler.errors import DatabaseError

MIGRATIONS = Path(__file__).parent / "migrations"
CONNECT_SECONDS = 5
# Driver for each scheme; SQLAlchemy's default driver for the first two is no longer maintained.
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
DriverError = SQLAlchemyError  # for those who use a database through another library, such as MLflow
_BEGIN = "buckler_begin"
_BUSY = re.compile("database is locked|lock timeout")  # of SQLite and of PostgreSQL
_upgrading = threading.Lock()  # Alembic keeps its context in module globals

Store = Literal["traffic", "history", "schedule"]


class Database:
    """One store's database; threads and processes may share it.

    Args:
        url: ``sqlite:///relative``, ``sqlite:////absolute`` or ``postgresql://user:password@host/name``.
        store: The store.
        named_by: Environment variable of the URL, for error messages.
        wal: SQLite only: readers and writers do not wait for each other. A power failure may lose the last second but
            damages nothing. Readers need write access to the directory.
        pooled: Keep connections open between uses.
        lock_seconds: How long a transaction waits for another process.

    Raises:
        DatabaseError: The URL has another form, or its driver is missing.
    """

    def __init__(
        self,
        url: str,
        store: Store,
        *,
        named_by: str,
        wal: bool = False,
        pooled: bool = False,
        lock_seconds: float = 30,
    ) -> None:
        self._store, self._named_by = store, named_by
        self._engine = _engine(url, named_by, pooled=pooled, lock_seconds=lock_seconds)
        self._current = False
        if self._engine.dialect.name == "sqlite":
            sql.event.listen(self._engine, "connect", _prepare)
            if wal:
                sql.event.listen(self._engine, "connect", partial(_use_wal, lock_seconds=lock_seconds))
            sql.event.listen(self._engine, "begin", _begin)
        else:
            sql.event.listen(self._engine, "begin", partial(_limit_locks, seconds=lock_seconds))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def engine(self) -> sql.Engine:
        """Return the engine, for libraries that take one."""
        return self._engine

    @property
    def shown_url(self) -> str:
        """Return the URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Turn errors of the driver into a `DatabaseError`, also for libraries that use the engine.

        Raises:
            DatabaseError: The database cannot be used.
        """
        try:
            yield
        except (SQLAlchemyError, OSError) as error:
            self._current = False  # the file may have been removed: the next use creates its tables again
            reason = reason_of(error)
            advice = advice_if_busy(reason) or f"set {self._named_by} to use another"
            raise DatabaseError(
                f"the {self._store} database {self.shown_url} cannot be used: {reason}; {advice}",
                passing=isinstance(error, OperationalError | InterfaceError | OSError),
            ) from error

    @contextmanager
    def reading(self) -> Iterator[sql.Connection]:
        """Yield a connection in a transaction that reads.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with self.explained():
            self._ensure_current()
            with self._engine.begin() as connection:
                yield connection

    @contextmanager
    def writing(self) -> Iterator[sql.Connection]:
        """Yield a connection in a transaction that writes: committed as a whole, or rolled back on an error.

        Raises:
            DatabaseError: The database cannot be used.
        """
        with self.explained():
            self._ensure_current()
            with self._begun_for_writing() as connection:
                yield connection

    def upgrade(self) -> None:
        """Create or upgrade the store's tables; processes that start at the same time wait for each other.

        Raises:
            DatabaseError: The database cannot be used, or a newer version of this package has upgraded it.
        """
        with self.explained():
            self._upgrade()

    def close(self) -> None:
        """Close all connections."""
        self._engine.dispose()

    def _ensure_current(self) -> None:
        if not self._current:
            self._upgrade()

    def _upgrade(self) -> None:
        file = self._engine.url.database
        if self._engine.dialect.name == "sqlite" and file and file != ":memory:":
            Path(file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self._engine.begin() as connection:
            current = _revision(connection, self._store) == head(self._store)
        if not current:  # a current database needs neither write access nor Alembic
            with _upgrading, self._begun_for_writing() as connection:
                _lock(connection, self._store)
                self._refuse_newer(connection)
                _run_migrations(connection, self._store)
        self._current = True

    def _refuse_newer(self, connection: sql.Connection) -> None:
        found, known = _revision(connection, self._store), head(self._store)
        if found and found > known:
            raise DatabaseError(
                f"{self.shown_url} has {self._store} schema {found}, this version of buckler knows up to {known}; "
                f"install the newer version, or name another database in {self._named_by}",
                passing=False,
            )

    @contextmanager
    def _begun_for_writing(self) -> Iterator[sql.Connection]:
        # SQLite: take the write lock first. A transaction that reads before it writes would fail, without waiting, if
        # another process wrote in between.
        with self._engine.connect() as connection:
            connection = connection.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"})
            with connection.begin():
                yield connection


def advice_if_busy(reason: str) -> str:
    """Return what to do about ``reason`` if another process holds the database; empty otherwise."""
    return "another process is writing to it: try again when that has ended" if _BUSY.search(reason) else ""


def head(store: Store) -> str:
    """Return the newest revision of ``store``: the name of its last migration."""
    return max(path.stem for path in (MIGRATIONS / store).glob("r[0-9]*.py"))


def version_table(store: Store) -> str:
    """Return the name of the table that records the revision of ``store``."""
    return f"buckler_{store}_version"


def _engine(url: str, named_by: str, *, pooled: bool, lock_seconds: float) -> sql.Engine:
    try:
        parsed = sql.make_url(url)
        driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
        if driver not in _DRIVERS.values():
            raise ArgumentError(f"no driver {parsed.drivername}")
        options: dict[str, Any] = {"pool_pre_ping": True} if pooled else {"poolclass": NullPool}
        return sql.create_engine(
            parsed.set(drivername=driver), connect_args=_arguments(driver, lock_seconds), **options
        )
    except ModuleNotFoundError as error:
        raise DatabaseError(
            f"{named_by}: the driver {error.name} of this database is not installed; install the extra `postgres`",
            passing=False,
        ) from error
    except (ArgumentError, ValueError) as error:
        # Not the value itself: it may contain a password.
        raise DatabaseError(
            f"{named_by}: expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, got something else",
            passing=False,
        ) from error


def _arguments(driver: str, lock_seconds: float) -> dict[str, Any]:
    if driver == "sqlite":
        return {"timeout": lock_seconds}
    return {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * CONNECT_SECONDS}


def _prepare(connection: Any, _: object) -> None:
    connection.isolation_level = None  # `_begin` begins transactions; the driver would not before DDL


def _use_wal(connection: sqlite3.Connection, _: object, *, lock_seconds: float) -> None:
    # Only the first connection to a file switches to WAL; SQLite does not wait for other connections there.
    deadline = time.monotonic() + lock_seconds
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            break
        except sqlite3.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
    connection.execute("PRAGMA synchronous=NORMAL")


def _begin(connection: sql.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))


def _limit_locks(connection: sql.Connection, *, seconds: float) -> None:
    # Local to the transaction: a pooler in between may give the connection to another program.
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {int(1000 * seconds)}")


def _lock(connection: sql.Connection, store: Store) -> None:
    """Allow one process at a time to upgrade ``store``; on SQLite, ``BEGIN IMMEDIATE`` already does."""
    if connection.dialect.name == "postgresql":
        key = zlib.crc32(version_table(store).encode())
        connection.execute(sql.select(sql.func.pg_advisory_xact_lock(key)))


def _revision(connection: sql.Connection, store: Store) -> str | None:
    if not sql.inspect(connection).has_table(version_table(store)):
        return None
    table = sql.table(version_table(store), sql.column("version_num", sql.String))
    return connection.execute(sql.select(table.c.version_num)).scalar()


def _run_migrations(connection: sql.Connection, store: Store) -> None:
    logging.getLogger("alembic").setLevel(logging.WARNING)  # before its import, which logs a line for each plugin
    from alembic import command  # takes a tenth of a second, only needed for an upgrade
    from alembic.config import Config

    config = Config()
    config.set_main_option("path_separator", "newline")
    for option, path in (("script_location", MIGRATIONS), ("version_locations", MIGRATIONS / store)):
        config.set_main_option(option, str(path).replace("%", "%%"))
    config.attributes.update(connection=connection, version_table=version_table(store))
    command.upgrade(config, "head")


def reason_of(error: Exception) -> str:
    """Return the first line of the driver's message; SQLAlchemy's contains the statement and its values."""
    origin = getattr(error, "orig", None) or error
    lines = str(origin).splitlines() or [type(origin).__name__]
    return lines[0]
