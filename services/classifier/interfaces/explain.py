"""``/explain``: an answer with a heat map of the regions that decide about a label.

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
from services.classifier.contract import Answer, RefusalError
from services.classifier.interfaces import frames
from services.classifier.interfaces.bodies import JSON
from services.classifier.requests import Call, HeatMap, HeatMapState
from services.classifier.routing import Format, Query

PNG = "image/png"
LABEL_HEADER = "X-Buckler-Label"  # percent-encoded: a label may be written in any script
DECISION_HEADER = "X-Buckler-Decision"
HEAT_MAP_HEADER = "X-Buckler-Heat-Map"  # see Explanation.heat_map
LABEL = Query("label", "The label to explain; default: the predicted label")


class Explanation(BaseModel):
    """An answer, and which regions of the picture decide about a label."""

    answer: Answer
    label: str = Field(description="The explained label")
    picture: str = Field(
        description="The picture as the model's decoder read it, at most 512 pixels a side: a PNG in base64"
    )
    heat_map: HeatMapState = Field(
        description="`shown`; `flat`: no region stands out; `unreliable`: the model's heat maps failed their check, see"
        " `heat_map` in the model card"
    )
    overlay: str | None = Field(
        description="The same picture with the regions marked: a PNG in base64; null unless the heat map is shown"
    )


DESCRIPTION = """Draws a heat map over the picture; yellow regions decide most between the label and the strongest \
other one, for or against it. The map is coarse. It is a hint where to look and no evidence that the answer is right. \
If the map is flat, or the model's heat maps failed their check, the picture has no marks, and the header \
`X-Buckler-Heat-Map` says so. The picture is classified and logged as by `/predict`; with `Accept: application/json`, \
the response has this answer too."""
GIVES = (
    Format(
        PNG,
        description="The picture with the regions marked, at most 512 pixels a side",
        headers=(LABEL_HEADER, DECISION_HEADER, HEAT_MAP_HEADER),
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
    answered = await call.answer(served, call.files[0], explained=True, label=label, frame=frames.chosen(call))
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
    headers = {
        LABEL_HEADER: quote(heat_map.label),
        DECISION_HEADER: answer.decision,
        HEAT_MAP_HEADER: heat_map.state,
    }
    return Response(_encoded(_marked(heat_map) or heat_map.picture), media_type=PNG, headers=headers)


def _json(answer: Answer, heat_map: HeatMap) -> Response:
    marked = _marked(heat_map)
    found = Explanation(
        answer=answer,
        label=heat_map.label,
        picture=_text(heat_map.picture),
        heat_map=heat_map.state,
        overlay=_text(marked) if marked else None,
    )
    return JSONResponse(found.model_dump(mode="json"))


def _marked(heat_map: HeatMap) -> Image.Image | None:
    """Return the picture with the regions marked; None if the heat map is not shown."""
    return heat_map.modality.marked(heat_map.picture, heat_map.relevance) if heat_map.state == "shown" else None


def _text(image: Image.Image) -> str:
    return base64.b64encode(_encoded(image)).decode()


def _encoded(image: Image.Image) -> bytes:
    return images.encode_png(image, compress_level=3)  # a third of the time at level 6, for a tenth more bytes
