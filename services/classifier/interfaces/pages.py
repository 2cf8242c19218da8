"""Routes that take no pictures: documentation, metrics, model card, receipt key and the protocol's metadata.

BentoML's own index page loads a tag manager from the internet, which hospital networks must not do. ``/docs`` instead
uses the Swagger UI files that BentoML ships, and its content security policy lets the browser load nothing from other
hosts.
"""

from datetime import UTC, datetime
from functools import cache, partial
from http import HTTPStatus
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING

import bentoml
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from buckler.serving import model_card
from buckler.trust import keys
from services.classifier import endpoints, metrics
from services.classifier.contract import RefusalError, error_response
from services.classifier.interfaces import card_page, oip
from services.classifier.interfaces.openapi import document, version
from services.classifier.records.audit import receipt_key
from services.classifier.settings import Settings

if TYPE_CHECKING:  # at run time the import would load TensorFlow into the supervisor process
    from services.classifier.served import Served

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Buckler classifier: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""

# No validator: by default Swagger UI sends the document's URL to a public validator.
START = """window.onload = function () {
  window.ui = SwaggerUIBundle({
    url: "docs.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
    presets: [SwaggerUIBundle.presets.apis],
    layout: "BaseLayout",
    defaultModelsExpandDepth: 0,
    docExpansion: "list"
  });
};
"""


def create(settings: Settings) -> Starlette:
    """Return the application with these routes; the service mounts it."""
    # Built at the first request: it takes half a second, and the supervisor needs none.
    specification = cache(partial(document, settings))
    return Starlette(
        routes=[
            Route("/", lambda _: RedirectResponse("docs")),
            Route("/docs", _docs),
            Route("/docs/start.js", lambda _: Response(START, media_type="text/javascript")),
            Mount("/docs/assets", StaticFiles(directory=swagger_files())),
            Route("/docs.json", lambda _: JSONResponse(specification())),
            Route("/metrics", metrics.page),
            Route(endpoints.OIP, _server),
            Route(endpoints.OIP_LIVE, lambda _: JSONResponse({"live": True})),
            Route(endpoints.OIP_READY, _ready),
            Route(endpoints.OIP_MODEL, lambda request: _json(oip.metadata(_named(request)))),
            Route(endpoints.OIP_MODEL_READY, _model_ready),
            Route(endpoints.CARD, _card),
            Route(endpoints.CARD_PAGE, _card),
            Route(endpoints.RECEIPT_KEY, lambda _: _receipt_key(settings)),
        ],
        exception_handlers={RefusalError: _refused},
    )


def swagger_files() -> Path:
    """Return BentoML's folder of Swagger UI files."""
    with as_file(files("bentoml") / "_internal/server/static_content") as folder:
        return folder


def _receipt_key(settings: Settings) -> Response:
    # Read at each request: every process that imports the service creates this application, whether it serves or not.
    key = receipt_key(settings)
    if key is None:
        return Response(status_code=HTTPStatus.NOT_FOUND)
    return Response(keys.public_pem(key.public_key()), media_type="application/x-pem-file")


def served() -> "Served":
    """Return the live model.

    Raises:
        RefusalError: ``no_verified_model``.
    """
    found: Served | None = bentoml.get_current_service().served
    if found is None:
        raise RefusalError("no_verified_model")
    return found


def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusalError)  # noqa: S101 - for the type checker
    return error_response(error.code, error.detail)


def _server(_: Request) -> Response:
    return _json(oip.ServerMetadata(name=oip.PLATFORM, version=version(), extensions=[]))


def _named(request: Request) -> "Served":
    model = served()
    oip.check_model(request.path_params, model)
    return model


def _ready(_: Request) -> Response:
    _check_standing(served())
    return JSONResponse({"live": True, "ready": True})


def _model_ready(request: Request) -> Response:
    model = _named(request)
    _check_standing(model)
    return JSONResponse({"name": model.name, "ready": True})


def _check_standing(model: "Served") -> None:
    if model.withdrawn:
        raise RefusalError("model_withdrawn")


def _json(content: BaseModel) -> Response:
    return JSONResponse(content.model_dump(mode="json"))


def _card(request: Request) -> Response:
    model = served()
    predictor = model.predictor
    card = model_card.card(
        predictor.verdict,
        predictor.info,
        name=model.name,
        version=model.version,
        now=datetime.now(UTC),
        standing=model.standing,
    )
    if request.url.path == endpoints.CARD_PAGE or "text/html" in request.headers.get("accept", ""):
        return HTMLResponse(card_page.page(card), headers={"content-security-policy": card_page.POLICY})
    return JSONResponse(card.model_dump(mode="json", by_alias=True))


def _docs(_: Request) -> Response:
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY, "referrer-policy": "no-referrer"})
