"""The documentation of the REST API: a page, and descriptions for programs.

BentoML's own index page loads a tag manager from the internet, which hospital networks must not do. ``/docs`` instead
uses the Swagger UI files that BentoML ships, and its content security policy lets the browser load nothing from other
hosts.
"""

from functools import cache
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from buckler.error_codes import ErrorCode
from services.classifier.contract import RefusalError
from services.classifier.interfaces.openapi import document
from services.classifier.requests import Call
from services.classifier.routing import Table
from services.classifier.settings import Settings

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


async def index(_: Call) -> Response:
    """Lead to the page."""
    return RedirectResponse("docs")


async def page_without_slash(_: Call) -> Response:
    """Lead to the page, whose links are relative to its own path."""
    return RedirectResponse("../docs")


async def page(_: Call) -> Response:
    """Return the page."""
    return HTMLResponse(PAGE, headers={"content-security-policy": POLICY, "referrer-policy": "no-referrer"})


async def start_script(_: Call) -> Response:
    """Return the script that starts Swagger UI."""
    return Response(START, media_type="text/javascript")


async def asset(call: Call) -> Response:
    """Return a file of Swagger UI.

    Raises:
        RefusalError: ``not_found``.
    """
    try:
        return await _assets().get_response(call.path["file"], {"type": "http", "method": "GET", "headers": []})
    except HTTPException as error:
        raise RefusalError(ErrorCode.NOT_FOUND) from error


def openapi(call: Call) -> Response:
    """Return the OpenAPI document."""
    return JSONResponse(_document(call.pipeline.settings, call.pipeline.table))


def bentoml_schema(call: Call) -> Response:
    """Return BentoML's description, which its Python client reads."""
    return JSONResponse(call.pipeline.schema())


@cache  # it takes half a second
def _document(settings: Settings, table: Table) -> dict[str, Any]:
    return document(settings, table)


@cache
def _assets() -> StaticFiles:
    return StaticFiles(directory=swagger_files())


def swagger_files() -> Path:
    """Return BentoML's folder of Swagger UI files."""
    with as_file(files("bentoml") / "_internal/server/static_content") as folder:
        return folder
