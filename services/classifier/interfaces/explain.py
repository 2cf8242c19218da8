"""``/explain``: an answer with a heat map of the regions that support a label (Grad-CAM).

The answer is that of ``/predict``, from the same decoding and the same forward pass, with the same audit line.
"""

import base64
from functools import partial
from urllib.parse import quote

from PIL import Image
from pydantic import BaseModel, Field
from starlette.datastructures import QueryParams
from starlette.responses import JSONResponse, Response

from buckler.error_codes import ErrorCode
from buckler.modality.picture import images
from buckler.modality.picture.overlay import overlay
from services.classifier.contract import Answer, RefusalError
from services.classifier.interfaces.bodies import JSON
from services.classifier.requests import Call, HeatMap
from services.classifier.routing import Format, Query

PNG = "image/png"
LABEL_HEADER = "X-Buckler-Label"  # percent-encoded: a label may be written in any script
DECISION_HEADER = "X-Buckler-Decision"
LABEL = Query("label", "The label to explain; default: the predicted label")


class Explanation(BaseModel):
    """An answer, and where the picture supports a label."""

    answer: Answer
    label: str = Field(description="The explained label")
    picture: str = Field(
        description="The picture as the model's decoder read it, at most 512 pixels a side: a PNG in base64"
    )
    overlay: str = Field(description="The same picture with the regions marked: a PNG in base64")


DESCRIPTION = """Draws a Grad-CAM map over the picture; yellow regions speak most for the label. The map is coarse, \
with cells of a sixteenth of the side. It is a hint where to look and no evidence that the answer is right. The \
picture is classified and logged as by `/predict`; with `Accept: application/json`, the response has this answer too."""
GIVES = (
    Format(
        PNG,
        description="The picture with the regions marked, at most 512 pixels a side",
        headers=(LABEL_HEADER, DECISION_HEADER),
    ),
    Format(JSON, (Explanation,), "The answer, the picture, and the picture with the regions marked"),
)


async def explain(call: Call) -> Response:
    """Answer one picture and draw the map of a label over it.

    Raises:
        RefusalError: ``label_unknown``; ``receipt_unsupported``: a PNG carries none; or as for ``/predict``.
    """
    as_png = call.format.media_type == PNG
    if as_png and call.receipt:
        raise RefusalError(
            ErrorCode.RECEIPT_UNSUPPORTED, f"{PNG} carries no receipt; send Accept: {JSON}, or use /predict"
        )
    served = call.ready()
    label = requested_label(call.query)
    if label is not None and label not in served.predictor.labels:
        raise RefusalError(
            ErrorCode.LABEL_UNKNOWN, f"expected one of the labels {', '.join(served.predictor.labels)}, got another"
        )
    answered = await call.answer(served, call.files[0], explained=True, label=label)
    return await call.pipeline.drawing.run(partial(_png if as_png else _json, answered.answer, answered.explained))


def requested_label(query: QueryParams) -> str | None:
    """Return the label in a query string; None, the predicted label, if there is none.

    Raises:
        RefusalError: ``label_unknown``: the query has several labels.
    """
    labels = query.getlist(LABEL.name)
    if len(labels) > 1:
        raise RefusalError(ErrorCode.LABEL_UNKNOWN, "expected one label in the query, got several")
    return labels[0] if labels else None


def _png(answer: Answer, heat_map: HeatMap) -> Response:
    headers = {LABEL_HEADER: quote(heat_map.label), DECISION_HEADER: answer.decision}
    return Response(_encoded(overlay(heat_map.picture, heat_map.relevance)), media_type=PNG, headers=headers)


def _json(answer: Answer, heat_map: HeatMap) -> Response:
    pictures = (heat_map.picture, overlay(heat_map.picture, heat_map.relevance))
    picture, marked = (base64.b64encode(_encoded(each)).decode() for each in pictures)
    found = Explanation(answer=answer, label=heat_map.label, picture=picture, overlay=marked)
    return JSONResponse(found.model_dump(mode="json"))


def _encoded(image: Image.Image) -> bytes:
    return images.encode_png(image, compress_level=3)  # a third of the time at level 6, for a tenth more bytes
