"""The classifier as a BentoML service: decode, predict, record, answer.

Start it, bound to loopback and with its state below ``.buckler``, with::

    python -m services.classifier --port 3000

which is equivalent to::

    BENTOML_HOME=.buckler/bentoml BENTOML_DO_NOT_TRACK=True OPENBLAS_NUM_THREADS=1 MALLOC_ARENA_MAX=2 \\
        BUCKLER_BOUND_HOST=127.0.0.1 bentoml serve services.classifier.service:Classifier --host 127.0.0.1 --port 3000

``BUCKLER_BOUND_HOST`` is the address that the service is bound to; without it, and on any address but loopback, clients
need keys (``BUCKLER_REQUIRE_KEYS``).

``BUCKLER_RELEASE`` names a release directory; without it the registry's champion is served (``MLFLOW_TRACKING_URI``).
A new release replaces the live one without a restart. ``BUCKLER_VERDICT_KEY`` and
``BUCKLER_PROMOTION_KEY`` name the public keys that verify verdicts and promotions.
The other settings are in ``services/classifier/settings.py``. Two services on one machine need two ``BENTOML_HOME``.
"""

import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import bentoml
from bentoml.validators import ContentType

from buckler.state import parents, proxies
from services.classifier import metrics
from services.classifier.contract import Answer
from services.classifier.edge import connections
from services.classifier.edge.access import announce
from services.classifier.edge.front_door import FrontDoor
from services.classifier.endpoints import ENDPOINTS
from services.classifier.pipeline import ClassifierPipeline
from services.classifier.releases.loading import freeze_loaded_objects
from services.classifier.requests import Call, new_id
from services.classifier.routing import Format, Table
from services.classifier.served import Served
from services.classifier.settings import Settings


class ClassifierService:
    """Classifies pictures with the live model; without a verified model, refuses every request.

    BentoML creates it in each worker. The front door answers HTTP requests; ``predict`` is for programs that run the
    service in their own process, and tells BentoML's Python client what to send.

    Attributes:
        pipeline: Answers pictures.
    """

    def __init__(
        self,
        settings: Settings,
        served: Served | None = None,
        *,
        table: Table = ENDPOINTS,
        schema: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Serve ``served``; by default, the releases that the source in the settings names."""
        parents.end_with_parent()
        proxies.exempt_loopback()  # without `python -m services.classifier`, nothing else has
        configure_logging()
        announce(settings)
        metrics.create_series(table)
        self.pipeline = ClassifierPipeline(settings, table, served, schema=schema)
        freeze_loaded_objects()

    @bentoml.on_shutdown
    def stop(self) -> None:
        """Stop all threads."""
        self.pipeline.stop()

    @bentoml.api
    async def predict(self, image: Annotated[Path, ContentType("image/*")]) -> Answer:
        """Answer one picture.

        Raises:
            RefusalError: The picture is unusable or part of a refused run, there is no live model, or the audit log
                cannot be written.
        """
        call = Call(id=new_id(), format=Format("application/json"), pipeline=self.pipeline)
        return (await call.answer(call.ready(), image.read_bytes())).answer


def configure_logging() -> None:
    """Enable our own log lines; suppress Pillow's warnings about metadata."""
    warnings.filterwarnings("ignore", module=r"PIL\.")
    logging.getLogger("buckler").setLevel(logging.INFO)


def create(settings: Settings, table: Table = ENDPOINTS) -> "bentoml.Service[ClassifierService]":
    """Return the BentoML service; from now on, servers started by this process limit their connections."""

    class Configured(ClassifierService):
        def __init__(self) -> None:  # BentoML passes no arguments
            super().__init__(settings, table=table, schema=lambda: service.schema())

    service = bentoml.service(
        name="classifier",
        workers=settings.workers,
        # BentoML's timeout answers in another form. It applies only where our own timeouts do not.
        traffic={"timeout": settings.body_timeout_seconds + settings.request_timeout_seconds + 30},
        # BentoML's metrics have the client's path as a label and its log has headers; the front door replaces both.
        metrics={"enabled": False},
        logging={"access": {"enabled": False}},
    )(Configured)
    # As a middleware, not mounted: BentoML's own routes come before a mounted application.
    pipeline = lambda: bentoml.get_current_service().pipeline  # noqa: E731
    service.add_asgi_middleware(FrontDoor, settings=settings, table=table, pipeline=pipeline)
    connections.install(settings)
    return service


def __getattr__(name: str) -> Any:
    """Create ``Classifier`` when BentoML first loads it by name: importing this module reads no settings."""
    if name != "Classifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = create(Settings.from_env())
    return globals()[name]
