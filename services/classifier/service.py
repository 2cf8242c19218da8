"""The classifier as a BentoML service: decode, ask the verified model, count, answer.

Start it, bound to loopback, with the addresses and the state it should have::

    python -m services.classifier --port 3000

which is the same as::

    BENTOML_HOME=.buckler/bentoml BENTOML_DO_NOT_TRACK=True OPENBLAS_NUM_THREADS=1 BUCKLER_BOUND_HOST=127.0.0.1 \\
        bentoml serve services.classifier.service:Classifier --host 127.0.0.1 --port 3000

``BUCKLER_BOUND_HOST`` is how the service knows what it is bound to; without it, and on any address but loopback,
it asks clients for keys (``BUCKLER_REQUIRE_KEYS``).

``BUCKLER_RELEASE`` names a release directory; without it the registry's champion is served
(``MLFLOW_TRACKING_URI``). Both are followed: a new one takes over without a restart.
``BUCKLER_VERDICT_KEY`` is the public key that verdicts are checked with. The other settings are in
``services/classifier/settings.py``. Two services on one machine need two ``BENTOML_HOME``.
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
from services.classifier.records.traffic import OF_THE_WATCH, Recorder
from services.classifier.releases.follower import Follower, follow
from services.classifier.releases.loading import freeze_loaded_objects
from services.classifier.releases.shadow import Shadow
from services.classifier.releases.slot import ModelSlot
from services.classifier.requests import ANSWER_ROUTE, PICTURE_REQUEST, Picture
from services.classifier.served import Served
from services.classifier.settings import Settings


class ExpectedFilter(logging.Filter):
    """Drops BentoML's traceback of a request that was refused on purpose; the front door logs its code."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what nobody expected."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(error, (RefusalError, ValidationError))


class ClassifierService:
    """Classifies one picture with the champion, or refuses to answer without a verified one."""

    def __init__(self, settings: Settings, served: Served | None = None) -> None:
        """Serve ``served``; without it, the release that the settings name, and follow its successors."""
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
        """Follow and record no more."""
        self._shadow.stop()
        self._recorder.stop()
        if self._follower:
            self._follower.stop()

    def __is_ready__(self) -> bool:
        """Tell BentoML's /readyz whether a verified model is loaded; it stays so while another one is being loaded."""
        served = self._slot.served
        return served is not None and not served.withdrawn

    @property
    def served(self) -> Served | None:
        """The model that answers now."""
        return self._slot.served

    @bentoml.api
    def predict(self, image: Annotated[Path, ContentType("image/*")]) -> Answer:
        """Answer one picture.

        Raises:
            RefusalError: The picture is not usable, or one of a run that is refused; there is no verified model, the
                audit log cannot be written, or the receipt that is asked for cannot be signed.
        """
        return self._classify(self._serving(), image, REQUEST_ID.get() or new_request_id())

    @bentoml.api(route=ANSWER_ROUTE)
    def answer(self) -> Any:
        """Answer what the front door has read beyond one picture: several, or in another form.

        Raises:
            RefusalError: As ``predict``; or there is no order, which only a path that the front door lost could do.
        """
        request, served = PICTURE_REQUEST.get(), self._serving()
        if request is None:
            raise RefusalError("not_found")
        return request.answer(partial(self._classify, served), served, REQUEST_ID.get() or new_request_id())

    def _serving(self) -> Served:
        served = self._slot.served  # once: another may take its place before this answer is complete
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
        answer = self._audit.record(answer, picture)  # before it is counted: a refused one is no answer
        if not OF_THE_WATCH.get():  # what it sends on purpose would hide, or look like, what clients send
            metrics.count(prediction)
        self._shadow.enqueue(picture, answer)
        self._recorder.enqueue(upload, prediction, predictor.digest)
        return answer


def decode(picture: Path | Picture, *, size: int) -> Upload:
    """Return a picture in whatever form it came, ``size`` pixels a side.

    Raises:
        RefusalError: It is not usable; the code says why.
    """
    if not isinstance(picture, Path | bytes):
        return Upload(picture)
    try:
        return uploads.load(picture, size=size)
    except UnusableImageError as error:
        raise RefusalError(error.code, str(error)) from error


def configure_logging() -> None:
    """Let our own lines through; keep refused requests' tracebacks out, and what Pillow says of broken metadata."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("buckler").setLevel(logging.INFO)
    bento = logging.getLogger("bentoml._internal.server.http_app")
    if not any(isinstance(each, ExpectedFilter) for each in bento.filters):
        bento.addFilter(ExpectedFilter())


def create(settings: Settings) -> "bentoml.Service[ClassifierService]":
    """Return the service as BentoML runs it; from now on, servers of this process bound their connections."""

    class Configured(ClassifierService):
        def __init__(self) -> None:  # BentoML passes no arguments
            super().__init__(settings)

    service = bentoml.service(
        name="classifier",
        workers=settings.workers,
        # BentoML's timeout answers in another form. It applies only to requests that ours do not reach.
        traffic={"timeout": settings.body_timeout_seconds + settings.request_timeout_seconds + 30},
        # BentoML's metrics have the client's path as a label, and its log has headers: the front door does both.
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
