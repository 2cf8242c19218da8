"""The classifier as a BentoML service: decode, ask the verified model, count, answer.

Start it, bound to loopback, with the addresses and the state it should have::

    python -m services.classifier --port 3000

which is the same as::

    BENTOML_HOME=.buckler/bentoml BENTOML_DO_NOT_TRACK=True OPENBLAS_NUM_THREADS=1 BUCKLER_BOUND_HOST=127.0.0.1 \\
        bentoml serve services.classifier.service:Classifier --host 127.0.0.1 --port 3000

``BUCKLER_BOUND_HOST`` is how the service knows what it is bound to; without it, and on any address but loopback,
it asks clients for keys (``BUCKLER_REQUIRE_KEYS``).

``BUCKLER_RELEASE`` names a release directory; without it the registry's champion is served
(``MLFLOW_TRACKING_URI``). ``BUCKLER_VERDICT_KEY`` is the public key that verdicts are checked with. The other
settings are in ``services/classifier/settings.py``. Two services on one machine need two ``BENTOML_HOME``.
"""

import logging
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from pydantic import ValidationError

from buckler.data.images import load_pixels
from buckler.errors import UnusableImageError
from services.classifier import metrics, pages
from services.classifier.access import announce
from services.classifier.answer import Answer, RefusalError
from services.classifier.evidence import Evidence
from services.classifier.front_door import REQUEST_ID, FrontDoor, new_request_id
from services.classifier.loading import Served, keep_from_the_collector, load_served
from services.classifier.settings import Settings

SETTINGS = Settings.from_env()  # BentoML wants workers and timeouts when it reads the class
# BentoML's own timeout answers in another form; ours come first, this one is for what they do not reach.
LAST_RESORT_SECONDS = SETTINGS.body_timeout_seconds + SETTINGS.request_timeout_seconds + 30


class ExpectedFilter(logging.Filter):
    """Drops BentoML's traceback of a request that was refused on purpose; the front door logs its code."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Keep what nobody expected."""
        error = record.exc_info[1] if isinstance(record.exc_info, tuple) else None
        return not isinstance(error, (RefusalError, ValidationError))


@bentoml.service(
    name="classifier",
    workers=SETTINGS.workers,
    traffic={"timeout": LAST_RESORT_SECONDS},
    # BentoML's metrics take the client's path as a label, its log any header: both are the front door's.
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
@bentoml.asgi_app(pages.create(SETTINGS), path="/")
class Classifier:
    """Classifies one picture with the champion, or refuses to answer without a verified one."""

    def __init__(self, served: Served | None = None) -> None:
        """Serve ``served``; without it, what the settings name."""
        configure_logging()
        announce(SETTINGS)
        metrics.create_series()
        self._evidence = Evidence(SETTINGS)
        self._served = served or load_served(SETTINGS)
        if self._served:
            metrics.show_model(self._served)
        keep_from_the_collector()

    def __is_ready__(self) -> bool:
        """Tell BentoML's /readyz whether a verified model is loaded."""
        return self._served is not None

    @bentoml.api
    def predict(self, image: Annotated[Path, ContentType("image/*")]) -> Answer:
        """Answer one picture.

        Raises:
            RefusalError: The picture is not usable, there is no verified model, the audit log cannot be written,
                or the receipt that is asked for cannot be signed.
        """
        if self._served is None:
            raise RefusalError("no_verified_model")
        self._evidence.check()
        predictor = self._served.predictor
        try:
            pixels = load_pixels(image, size=predictor.image_size)
        except UnusableImageError as error:
            raise RefusalError(error.code, str(error)) from error
        with metrics.INFERENCE_SECONDS.time():
            prediction = predictor(pixels)
        answer = Answer.of(prediction, self._served, REQUEST_ID.get() or new_request_id())
        answer = self._evidence.keep(answer, image)  # before it is counted: a refused one is no answer
        metrics.count(prediction)
        return answer


def configure_logging() -> None:
    """Let our own lines through and keep refused requests' tracebacks out."""
    logging.getLogger("buckler").setLevel(logging.INFO)
    bento = logging.getLogger("bentoml._internal.server.http_app")
    if not any(isinstance(each, ExpectedFilter) for each in bento.filters):
        bento.addFilter(ExpectedFilter())


Classifier.add_asgi_middleware(FrontDoor, settings=SETTINGS)
