"""Measurements of served pictures, kept in a database so that `buckler.watch.drift` can detect changes.

Never pixels, file names, keys or who asked: brightness, colour, sharpness, size, a sketch of the features, and what was
answered. The database is a SQLite file, or PostgreSQL where a URL names one; any number of processes write to it.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import sqlalchemy as sql
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError, SQLAlchemyError

from buckler.detection.reasons import INPUT_REASONS
from buckler.errors import BucklerError
from buckler.modality.picture.measures import TRAFFIC_MEASURES, traffic_measures
from buckler.modality.picture.uploads import Upload

if TYPE_CHECKING:
    from buckler.serving.predictor import Prediction

URL_ENV = "BUCKLER_TRAFFIC_URL"
OFF = "off"
# Who asks for the watch says so, by the name of its key, or where no keys are asked for by this header.
WATCH_KEY_NAME = "watch"
WATCH_HEADER = "x-buckler-watch"

CONNECT_SECONDS = 5
LOCK_SECONDS = 5
# URLs as people write them; SQLAlchemy's own default for the first two is a driver that is not maintained any more.
_DRIVERS = {"postgres": "postgresql+psycopg", "postgresql": "postgresql+psycopg", "sqlite": "sqlite"}
_SAFE_INTEGER = 2**31 - 1


class TrafficError(BucklerError):
    """The database cannot be used.

    Attributes:
        passing: Whether it may work again by itself: it is away, busy or full.
    """

    def __init__(self, message: str, *, passing: bool) -> None:
        super().__init__(message)
        self.passing = passing


@dataclass(frozen=True, slots=True)
class Observation:
    """What is remembered of one answered picture.

    Attributes:
        moment: When it was answered, seconds since 1970.
        digest: Of the model that answered.
        width, height, size_bytes: Of the picture as it was sent; None where pixels were sent.
        brightness, contrast: Mean and standard deviation of the luma of what the network saw, 0..1.
        red, green, blue: Means, 0..1.
        saturation: Mean, 0..1, as in HSV.
        sharpness: Variance of the Laplacian of the luma, in squared 8-bit levels.
        label, probabilities, score: As answered.
        decision: ``review`` where the picture itself gives a reason. A degraded model gives one to every picture, which
            would count as drift for as long as drift degrades the model; a query attack has an alert of its own.
        sketch: See `buckler.detection.sketch`.
    """

    moment: float
    digest: str
    width: int | None
    height: int | None
    size_bytes: int | None
    brightness: float
    contrast: float
    red: float
    green: float
    blue: float
    saturation: float
    sharpness: float
    label: str
    decision: str
    score: float
    probabilities: Mapping[str, float]
    sketch: tuple[float, ...] = field(repr=False)


def observe(upload: Upload, prediction: "Prediction", *, digest: str, moment: float | None = None) -> Observation:
    """Return what is to be remembered of a picture and its answer, now or at ``moment``."""
    return Observation(
        moment=time.time() if moment is None else moment,
        digest=digest,
        width=upload.width,
        height=upload.height,
        size_bytes=upload.size_bytes,
        **traffic_measures(upload.pixels),
        label=prediction.label,
        decision="review" if set(prediction.reasons) & set(INPUT_REASONS) else "accept",
        score=prediction.score,
        probabilities=prediction.probabilities,
        sketch=prediction.sketch,
    )


# --- the database

_METADATA = sql.MetaData()
# The number is the schema's: another one is another table, and the old one stays for whoever goes back.
_TABLE = sql.Table(
    "buckler_traffic_1",
    _METADATA,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("moment", sql.Double, nullable=False, index=True),
    sql.Column("digest", sql.String(80), nullable=False),
    *(sql.Column(name, sql.Integer) for name in ("width", "height", "size_bytes")),
    *(sql.Column(name, sql.Double, nullable=False) for name in TRAFFIC_MEASURES),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("decision", sql.String(16), nullable=False),
    sql.Column("score", sql.Double, nullable=False),
    sql.Column("probabilities", sql.Text, nullable=False),
    sql.Column("sketch", sql.LargeBinary, nullable=False),
)


class Traffic:
    """The observations of all services that write to one database; several threads may share it."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet.

        Args:
            url: ``sqlite:///relative``, ``sqlite:////absolute`` or ``postgresql://user:password@host/name``.

        Raises:
            TrafficError: It is no such URL, or the driver is missing.
        """
        self._engine = _engine(url)
        self._ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self._engine.url.render_as_string(hide_password=True)

    def write(self, observations: Sequence[Observation]) -> None:
        """Add ``observations``, all or none of them.

        Raises:
            TrafficError: It cannot be written to.
        """
        rows = [_row(each) for each in observations]
        with self._connected() as connection:
            connection.execute(sql.insert(_TABLE), rows)

    def prune(self, *, days: float, rows: int) -> int:
        """Forget what is older than so many days, and all but the newest so many; return how many are gone.

        Raises:
            TrafficError: It cannot be written to.
        """
        oldest = sql.select(_TABLE.c.id).order_by(_TABLE.c.id.desc()).offset(rows).limit(1)
        with self._connected() as connection:
            beyond = connection.execute(oldest).scalar()
            old = _TABLE.c.moment < time.time() - days * 86400
            which = old if beyond is None else old | (_TABLE.c.id <= beyond)
            return connection.execute(sql.delete(_TABLE).where(which)).rowcount

    def window(self, *, since: float, limit: int) -> list[Observation]:
        """Return what was answered since then, oldest first, of more than ``limit`` the newest.

        Raises:
            TrafficError: It cannot be read.
        """
        newest = sql.select(_TABLE).where(_TABLE.c.moment >= since).order_by(_TABLE.c.moment.desc()).limit(limit)
        with self._connected() as connection:
            rows = connection.execute(newest).mappings().all()
        return [_observation(dict(row)) for row in reversed(rows)]

    def close(self) -> None:
        """Let go of the connections."""
        self._engine.dispose()

    @contextmanager
    def _connected(self) -> Iterator[sql.Connection]:
        try:
            if not self._ready:
                _create(self._engine)
            with self._engine.begin() as connection:
                yield connection
            self._ready = True
        except (SQLAlchemyError, OSError) as error:
            self._ready = False  # somebody may have moved the file away: the table is made anew
            passing = isinstance(error, (OperationalError, InterfaceError, OSError))
            raise TrafficError(
                f"the traffic's database {self.shown_url} cannot be used: {_said(error)}; {URL_ENV} names another",
                passing=passing,
            ) from error


def _engine(url: str) -> sql.Engine:
    try:
        parsed = sql.make_url(url)
        driver = _DRIVERS.get(parsed.drivername, parsed.drivername)
        if driver not in _DRIVERS.values():
            raise ArgumentError(f"no driver {parsed.drivername}")
        engine = sql.create_engine(parsed.set(drivername=driver), pool_pre_ping=True, connect_args=_arguments(driver))
    except ModuleNotFoundError as error:
        raise TrafficError(
            f"{URL_ENV} names a database whose driver {error.name} is not installed; install the extra `postgres`",
            passing=False,
        ) from error
    except (ArgumentError, ValueError) as error:
        # Not the value itself: it may hold a password.
        raise TrafficError(
            f"{URL_ENV}: expected sqlite:///FILE or postgresql://USER:PASSWORD@HOST/NAME, got something else",
            passing=False,
        ) from error
    if driver == "sqlite":
        sql.event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _arguments(driver: str) -> dict[str, Any]:
    if driver == "sqlite":
        return {"timeout": LOCK_SECONDS}
    return {"connect_timeout": CONNECT_SECONDS, "tcp_user_timeout": 1000 * CONNECT_SECONDS}


def _prepare_sqlite(connection: Any, _: object) -> None:
    # Readers and writers do not wait for each other; a power cut may cost the last second, and damages nothing.
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")


def _create(engine: sql.Engine) -> None:
    file = engine.url.database
    if engine.dialect.name == "sqlite" and file and file != ":memory:":
        Path(file).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        _METADATA.create_all(engine)
    except SQLAlchemyError:
        # Another process was a moment faster.
        if not sql.inspect(engine).has_table(_TABLE.name):
            raise


def _row(observation: Observation) -> dict[str, Any]:
    row = {name: getattr(observation, name) for name in _FIELDS}
    for name in ("width", "height", "size_bytes"):
        row[name] = None if row[name] is None else min(row[name], _SAFE_INTEGER)
    row["probabilities"] = json.dumps(dict(observation.probabilities))
    row["sketch"] = np.asarray(observation.sketch, "<f4").tobytes()
    return row


def _observation(row: Mapping[str, Any]) -> Observation:
    values = {name: row[name] for name in _FIELDS}
    values["probabilities"] = json.loads(values["probabilities"])
    values["sketch"] = tuple(np.frombuffer(values["sketch"], "<f4").tolist())
    return Observation(**values)


_FIELDS = tuple(Observation.__dataclass_fields__)


def _said(error: Exception) -> str:
    # The driver's own words, one line; SQLAlchemy would add the statement and its values.
    origin = getattr(error, "orig", None) or error
    lines = str(origin).splitlines() or [type(origin).__name__]
    return lines[0]
