"""What operators and their tools read: probes, metrics, the model card, the key that checks receipts."""

from datetime import UTC, datetime

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from buckler.error_codes import ErrorCode
from buckler.serving import model_card
from buckler.serving.model_card import ModelCard
from buckler.trust import public_keys
from services.classifier import metrics
from services.classifier.contract import RefusalError
from services.classifier.interfaces import card_page
from services.classifier.interfaces.bodies import JSON
from services.classifier.requests import Call
from services.classifier.routing import Format

HTML = "text/html"
PEM = "application/x-pem-file"

YES = (Format("text/plain", description="Yes"),)
CARD = (Format(JSON, (ModelCard,), "The card"), Format(HTML, description="The card as a page"))
CARD_PAGE = CARD[1:]
METRICS = (Format("text/plain", description="The metrics"),)
RECEIPT_KEY = (Format(PEM, description="The key"),)


async def alive(_: Call) -> Response:
    """Answer while the process runs."""
    return PlainTextResponse("\n")


async def ready(call: Call) -> Response:
    """Answer 200 if a model answers predictions; while another one is being loaded, too."""
    call.ready()
    return PlainTextResponse("\n")


def scrape(_: Call) -> Response:
    """Return the metrics of all workers."""
    return Response(metrics.exposition(), media_type=CONTENT_TYPE_LATEST)


def card(call: Call) -> Response:
    """Return the model card of the live model, as JSON or as a page."""
    served = call.live()
    predictor = served.predictor
    found = model_card.card(
        predictor.verdict,
        predictor.info,
        name=served.name,
        version=served.version,
        now=datetime.now(UTC),
        standing=served.standing,
        approved_by=served.approved_by,
    )
    if call.format.media_type == HTML:
        return HTMLResponse(card_page.page(found), headers={"content-security-policy": card_page.POLICY})
    return JSONResponse(found.model_dump(mode="json", by_alias=True))


def receipt_public_key(call: Call) -> Response:
    """Return the public key that checks receipts.

    Raises:
        RefusalError: ``not_found``: the service signs none.
    """
    key = call.pipeline.receipt_key
    if key is None:
        raise RefusalError(ErrorCode.NOT_FOUND, "this service signs no receipts; its operator can create a key")
    return Response(public_keys.public_pem(key), media_type=PEM)
