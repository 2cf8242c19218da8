"""``/explain``: where the model looked, painted over the picture it was asked about."""

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


def asked_label(query: bytes) -> str | None:
    """Return the label that a query string names, None for the answer's own.

    Raises:
        RefusalError: ``label_unknown``: it names several.
    """
    labels = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("label", [])
    if len(labels) > 1:
        raise RefusalError("label_unknown", "expected one label in the query, got several")
    return labels[0] if labels else None


@dataclass(frozen=True, slots=True)
class Explanation:
    """One picture, answered as a PNG of it with what spoke for a label painted over.

    Attributes:
        label: For which; None for the answer's own.
    """

    picture: bytes
    label: str | None

    @property
    def count(self) -> int:
        """It holds one picture."""
        return 1

    def answer(self, classify: Classify, served: "Served", request_id: str) -> Response:
        """Answer the picture, which is logged and counted as any other, and paint it.

        Raises:
            RefusalError: ``label_unknown``; or as ``classify``.
        """
        predictor = served.predictor
        if self.label is not None and self.label not in predictor.labels:
            raise RefusalError("label_unknown", f"expected one of the labels {', '.join(predictor.labels)}")
        answer = classify(self.picture, request_id)
        label = self.label or answer.label
        image = uploads.load_image(self.picture)
        relevance = predictor.explain(images.as_pixels(image, size=predictor.image_size), label)
        buffer = io.BytesIO()
        overlay(image, relevance).save(buffer, format="PNG")
        headers = {LABEL_HEADER: quote(label), DECISION_HEADER: answer.decision}
        return Response(buffer.getvalue(), media_type="image/png", headers=headers)
