"""``/explain``: the picture with the regions marked that support a label (Grad-CAM)."""

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, quote

from starlette.responses import Response

from buckler.modality.picture import images, uploads
from buckler.modality.picture.overlay import overlay
from services.classifier.contract import RefusalError
from services.classifier.requests import Classify

if TYPE_CHECKING:
    from services.classifier.served import Served

LABEL_HEADER = "X-Buckler-Label"  # percent-encoded: a label may be written in any script
DECISION_HEADER = "X-Buckler-Decision"


def requested_label(query: bytes) -> str | None:
    """Return the label in a query string; None, the predicted label, if there is none.

    Raises:
        RefusalError: ``label_unknown``: the query has several labels.
    """
    labels = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("label", [])
    if len(labels) > 1:
        raise RefusalError("label_unknown", "expected one label in the query, got several")
    return labels[0] if labels else None


@dataclass(frozen=True, slots=True)
class ExplainRequest:
    """One picture, answered by a PNG with the regions marked that support a label.

    Attributes:
        picture: The file as it was sent.
        label: The label to explain; None for the predicted label.
    """

    picture: bytes
    label: str | None

    @property
    def count(self) -> int:
        """Number of pictures."""
        return 1

    def answer(self, classify: Classify, served: "Served", request_id: str) -> Response:
        """Classify the picture, which is logged and counted like any other, and draw the map of the label over it.

        Raises:
            RefusalError: ``label_unknown``; or as ``classify``.
        """
        predictor = served.predictor
        if self.label is not None and self.label not in predictor.labels:
            raise RefusalError("label_unknown", f"expected one of the labels {', '.join(predictor.labels)}")
        answer = classify(self.picture, request_id)
        label = self.label or answer.label
        image = uploads.load_image(self.picture)
        pixels = images.as_pixels(image, size=predictor.image_size)
        _, relevance = predictor.predict_and_explain(pixels, label)
        buffer = io.BytesIO()
        overlay(image, relevance).save(buffer, format="PNG")
        headers = {LABEL_HEADER: quote(label), DECISION_HEADER: answer.decision}
        return Response(buffer.getvalue(), media_type="image/png", headers=headers)
