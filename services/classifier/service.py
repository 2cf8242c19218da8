"""The classifier as a BentoML service: decode, predict, record, answer.

Start it, bound to loopback and with its state below ``.buckler``, with::

    python -m services.classifier --port 3000

which is equivalent to::

    BENTOML_HOME=.buckler/bentoml BENTOML_DO_NOT_TRACK=True OPENBLAS_NUM_THREADS=1 BUCKLER_BOUND_HOST=127.0.0.1 \\
        bentoml serve services.classifier.service:Classifier --host 127.0.0.1 --port 3000

``BUCKLER_BOUND_HOST`` is the address that the service is bound to; without it, and on any address but loopback, clients
need keys (``BUCKLER_REQUIRE_KEYS``).

``BUCKLER_RELEASE`` names a release directory; without it the registry's champion is served (``MLFLOW_TRACKING_URI``).
A new release replaces the live one without a restart. ``BUCKLER_VERDICT_KEY`` is the public key that verifies verdicts.
The other settings are in ``services/classifier/settings.py``. Two services on one machine need two ``BENTOML_HOME``.
"""

import logging
import warnings
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType
from pydantic import ValidationError

from buckler.detection.reasons import Reason
from buckler.errors import UnusableImageError
from buckler.modality.picture import uploads
from buckler.modality.picture.uploads import Upload
from services.classifier import metrics
from services.classifier.contract import Answer, RefusalError
from services.classifier.edge import connections
from services.classifier.edge.access import announce
from services.classifier.edge.front_door import REQUEST_ID, FrontDoor, new_request_id
from services.classifier.interfaces import pages
from services.classifier.records.audit import AuditTrail
from services.classifier.records.query_attack import QueryGuard
from services.classifier.records.traffic import FROM_WATCH, Recorder
from services.classifier.releases.follower import Follower, follow
from services.classifier.releases.loading import freeze_loaded_objects
from services.classifier.releases.shadow import Shadow
from services.classifier.releases.slot import ModelSlot
from services.classifier.requests import ANSWER_ROUTE, PICTURE_REQUEST, Picture
from services.classifier.served import Served
from services.classifier.settings import Settings


class ExpectedFilter(logging.Filter):
    """Drops BentoML's tracebacks of refused requests; the front door logs their codes."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep records of unexpected errors."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(error, (RefusalError, ValidationError))


class ClassifierService:
    """Classifies pictures with the live model; without a verified model, refuses every request."""

    def __init__(self, settings: Settings, served: Served | None = None) -> None:
        """Serve ``served``; by default, the releases that the source in the settings names."""
        configure_logging()
        announce(settings)
        metrics.create_series()
        self._audit = AuditTrail(settings)
        self._queries = QueryGuard(settings, self._audit)
        self._slot = ModelSlot(served, keep_previous_seconds=settings.previous_model_seconds)
        self._follower: Follower | None = None
        if served:
            metrics.show_model(served)
        else:
            self._follower = follow(settings, self._slot)
            self._follower.start()
        self._shadow = Shadow(settings)
        self._shadow.start()
        self._recorder = Recorder(settings)
        self._recorder.start()
        freeze_loaded_objects()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Stop all threads."""
        self._shadow.stop()
        self._recorder.stop()
        if self._follower:
            self._follower.stop()

    def __is_ready__(self) -> bool:
        """Return whether a verified model is live, for BentoML's /readyz; loading another one does not affect it."""
        served = self._slot.served
        return served is not None and not served.withdrawn

    @property
    def served(self) -> Served | None:
        """The live model; None without one."""
        return self._slot.served

    @bentoml.api
    def predict(self, image: Annotated[Path, ContentType("image/*")]) -> Answer:
        """Answer one picture.

        Raises:
            RefusalError: The picture is unusable or part of a refused run, there is no live model, the audit log cannot
                be written, or the requested receipt cannot be signed.
        """
        return self._classify(self._serving(), image, REQUEST_ID.get() or new_request_id())

    @bentoml.api(route=ANSWER_ROUTE)
    def answer(self) -> Any:
        """Answer a typed request from the front door: several pictures, or another form of answer.

        Raises:
            RefusalError: As ``predict``; also without a typed request, as when a client gets past the front door.
        """
        request, served = PICTURE_REQUEST.get(), self._serving()
        if request is None:
            raise RefusalError("not_found")
        return request.answer(partial(self._classify, served), served, REQUEST_ID.get() or new_request_id())

    def _serving(self) -> Served:
        served = self._slot.served  # read once: it may be swapped before this answer is complete
        if served is None:
            raise RefusalError("no_verified_model")
        if served.withdrawn:
            raise RefusalError("model_withdrawn")
        self._audit.check_receipt()
        return served

    def _classify(self, served: Served, picture: Path | Picture, request_id: str) -> Answer:
        predictor = served.predictor
        upload = decode(picture, size=predictor.image_size)
        in_query_run = self._queries.in_run(upload.pixels, picture)
        with metrics.INFERENCE_SECONDS.time(), self._shadow.paused():
            prediction = served(upload.pixels)
        if in_query_run:
            prediction = prediction.for_review(Reason.QUERY_ATTACK)
        answer = Answer.of(prediction, served, request_id)
        answer = self._audit.record(answer, picture)  # before it is counted: this may refuse the request
        if not FROM_WATCH.get():  # its test pictures would distort the metrics of clients' pictures
            metrics.count(prediction)
        self._shadow.enqueue(picture, answer)
        self._recorder.enqueue(upload, prediction, predictor.digest)
        return answer


def decode(picture: Path | Picture, *, size: int) -> Upload:
    """Return a picture, received as a file or as pixels, resized to ``size`` pixels a side.

    Raises:
        RefusalError: The picture is unusable; the code names the reason.
    """
    if not isinstance(picture, Path | bytes):
        return Upload(picture)
    try:
        return uploads.load(picture, size=size)
    except UnusableImageError as error:
        raise RefusalError(error.code, str(error)) from error


def configure_logging() -> None:
    """Enable our own log lines; suppress tracebacks of refused requests and Pillow's warnings about metadata."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("buckler").setLevel(logging.INFO)
    bento = logging.getLogger("bentoml._internal.server.http_app")
    if not any(isinstance(each, ExpectedFilter) for each in bento.filters):
        bento.addFilter(ExpectedFilter())


def create(settings: Settings) -> "bentoml.Service[ClassifierService]":
    """Return the BentoML service; from now on, servers started by this process limit their connections."""

    class Configured(ClassifierService):
        def __init__(self) -> None:  # BentoML passes no arguments
            super().__init__(settings)

    service = bentoml.service(
        name="classifier",
        workers=settings.workers,
        # BentoML's timeout answers in another form. It applies only where our own timeouts do not.
        traffic={"timeout": settings.body_timeout_seconds + settings.request_timeout_seconds + 30},
        # BentoML's metrics have the client's path as a label and its log has headers; the front door replaces both.
        metrics={"enabled": False},
        logging={"access": {"enabled": False}},
    )(Configured)
    service.mount_asgi_app(pages.create(settings), path="/")
    service.add_asgi_middleware(FrontDoor, settings=settings)
    connections.install(settings)
    return service


def __getattr__(name: str) -> Any:
    """Create ``Classifier`` when BentoML first loads it by name: importing this module reads no settings."""
    if name != "Classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = create(Settings.from_env())
    return globals()[name]
