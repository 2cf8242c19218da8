"""Measurements of served pictures, stored in a database so that `buckler.watch.drift` can detect changes.

They cover brightness, colour, sharpness, size, a sketch of the features and the answer, but never pixels, file names,
keys or client identities. They identify a picture: the service stores them only after `traffic_mixing` has mixed those
of many. The database is a SQLite file, or PostgreSQL where a URL names one; any number of processes
write to it.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np
import sqlalchemy as sql

from buckler.detection.reasons import INPUT_REASONS
from buckler.modality.base import Modality, Upload
from buckler.state.database import Database

if TYPE_CHECKING:
    from buckler.serving.predictor import Prediction

URL_ENV = "BUCKLER_TRAFFIC_URL"
OFF = "off"

MEASURES: Final = ("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness")
"""Measures of an input that the database has columns for: those of pictures."""

LOCK_SECONDS = 5
_SAFE_INTEGER = 2**31 - 1


@dataclass(frozen=True, slots=True)
class TrafficObservation:
    """The measurements of one answered picture, or a stored row, which is mixed from several.

    Attributes:
        moment: Time of the answer, seconds since 1970.
        digest: Digest of the model that answered.
        width, height, size_bytes: Size of the received picture; None if the client sent pixels.
        brightness, contrast: Mean and standard deviation of the luma of the network's input, 0..1.
        red, green, blue: Means, 0..1.
        saturation: Mean, 0..1, as in HSV.
        sharpness: Variance of the Laplacian of the luma, in squared 8-bit levels.
        label, score: Values in the answer.
        confidence: Probability of the label.
        decision: ``review`` if the picture itself gives a reason. Reasons from a degraded model are left out: they
            affect every picture, so drift that degrades the model would sustain itself. Query attacks have their own
            alert.
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
    confidence: float
    sketch: tuple[float, ...] = field(repr=False)


def has_columns_for(modality: Modality) -> bool:
    """Return whether the traffic of ``modality`` can be stored."""
    return {measure.name for measure in modality.traffic} == set(MEASURES)


def observe(
    upload: Upload, prediction: "Prediction", modality: Modality, *, digest: str, moment: float | None = None
) -> TrafficObservation:
    """Return the measurements of a picture and its answer, now or at ``moment``.

    Raises:
        ValueError: A measurement is no finite number; it would spoil those that it is mixed with.
    """
    measures, confidence = modality.traffic_of(upload.values), max(prediction.probabilities.values())
    if not np.isfinite([*measures.values(), prediction.score, confidence, *prediction.sketch]).all():
        raise ValueError(f"expected finite measurements of a picture, got {measures}")
    return TrafficObservation(
        moment=time.time() if moment is None else moment,
        digest=digest,
        width=upload.width,
        height=upload.height,
        size_bytes=upload.size_bytes,
        **measures,
        label=prediction.label,
        decision="review" if set(prediction.reasons) & set(INPUT_REASONS) else "accept",
        score=prediction.score,
        confidence=confidence,
        sketch=prediction.sketch,
    )


# --- the database

_METADATA = sql.MetaData()
# `buckler.state` creates and upgrades it; a change here needs a migration there.
_TABLE = sql.Table(
    "buckler_traffic_2",
    _METADATA,
    sql.Column("id", sql.BigInteger().with_variant(sql.Integer(), "sqlite"), primary_key=True, autoincrement=True),
    sql.Column("moment", sql.Double, nullable=False, index=True),
    sql.Column("digest", sql.String(80), nullable=False),
    *(sql.Column(name, sql.Integer) for name in ("width", "height", "size_bytes")),
    *(sql.Column(name, sql.Double, nullable=False) for name in MEASURES),
    sql.Column("label", sql.Text, nullable=False),
    sql.Column("decision", sql.String(16), nullable=False),
    sql.Column("score", sql.Double, nullable=False),
    sql.Column("confidence", sql.Double, nullable=False),
    sql.Column("sketch", sql.LargeBinary, nullable=False),
)


_NEWEST = (_TABLE.c.moment.desc(), _TABLE.c.id.desc())  # rows of an hour have the same moment


class Traffic:
    """The observations of all services that write to one database; several threads may share it."""

    def __init__(self, url: str) -> None:
        """Connect to nothing yet.

        Args:
            url: A URL for `buckler.state.database.Database`.

        Raises:
            DatabaseError: The URL is invalid or its driver is missing.
        """
        self._database = Database(url, "traffic", named_by=URL_ENV, wal=True, pooled=True, lock_seconds=LOCK_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shown_url(self) -> str:
        """The URL without its password."""
        return self._database.shown_url

    def prepare(self) -> None:
        """Create or upgrade the table before the first write.

        Raises:
            DatabaseError: The database cannot be used.
        """
        self._database.upgrade()

    def write(self, observations: Sequence[TrafficObservation]) -> None:
        """Add ``observations``, all or none of them.

        Raises:
            DatabaseError: The database is not writable.
        """
        rows = [_row(each) for each in observations]
        with self._database.writing() as connection:
            connection.execute(sql.insert(_TABLE), rows)

    def prune(self, *, days: float, rows: int) -> int:
        """Delete observations beyond the maximum age in days or the maximum number; return how many were deleted.

        Raises:
            DatabaseError: The database is not writable.
        """
        oldest = sql.select(_TABLE.c.id).order_by(_TABLE.c.id.desc()).offset(rows).limit(1)
        with self._database.writing() as connection:
            beyond = connection.execute(oldest).scalar()
            old = _TABLE.c.moment < time.time() - days * 86400
            which = old if beyond is None else old | (_TABLE.c.id <= beyond)
            return connection.execute(sql.delete(_TABLE).where(which)).rowcount

    def window(self, *, since: float, until: float = math.inf, limit: int) -> list[TrafficObservation]:
        """Return the newest ``limit`` observations between two moments, oldest first.

        Raises:
            DatabaseError: The database cannot be read.
        """
        within = (_TABLE.c.moment >= since) & (_TABLE.c.moment <= until)
        newest = sql.select(_TABLE).where(within).order_by(*_NEWEST).limit(limit)
        with self._database.reading() as connection:
            rows = connection.execute(newest).mappings().all()
        return [_observation(dict(row)) for row in reversed(rows)]

    def close(self) -> None:
        """Close the connections."""
        self._database.close()


def _row(observation: TrafficObservation) -> dict[str, Any]:
    row = {name: getattr(observation, name) for name in _FIELDS}
    for name in ("width", "height", "size_bytes"):
        row[name] = None if row[name] is None else min(row[name], _SAFE_INTEGER)
    row["sketch"] = np.asarray(observation.sketch, "<f4").tobytes()
    return row


def _observation(row: Mapping[str, Any]) -> TrafficObservation:
    values = {name: row[name] for name in _FIELDS}
    values["sketch"] = tuple(np.frombuffer(values["sketch"], "<f4").tolist())
    return TrafficObservation(**values)


_FIELDS = tuple(TrafficObservation.__dataclass_fields__)
