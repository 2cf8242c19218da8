"""The table of endpoints. Routing, access, limits, metrics and the OpenAPI document all come from it.

To add an endpoint, write its handler in ``interfaces`` and add a row.
"""

from buckler.error_codes import ErrorCode
from buckler.serving.api_keys import Role
from services.classifier.contract import Feedback
from services.classifier.interfaces import documentation, explain, feedback, frames, oip, operation, predict
from services.classifier.interfaces.bodies import PICTURES, json_of
from services.classifier.routing import BATCH, Endpoint, Format, Table

OIP = "Open Inference Protocol"
PREDICTION = "prediction"
NO_MODEL = (ErrorCode.NO_VERIFIED_MODEL,)
NOT_READY = (ErrorCode.NO_VERIFIED_MODEL, ErrorCode.MODEL_WITHDRAWN)
WRONG_MODEL = (ErrorCode.MODEL_UNKNOWN, *NO_MODEL)
SCRIPT = (Format("text/javascript"),)
PAGE = (Format("text/html"),)
JSON = (Format("application/json"),)


def _of_model(action: str = "") -> tuple[str, str]:
    return f"/v2/models/{{name}}{action}", f"/v2/models/{{name}}/versions/{{version}}{action}"


# Without a role an endpoint is open: probes, because orchestrators and load balancers hold no key and learn only yes or
# no; the documentation, because future clients read it before they get a key. The model card is not: thresholds and
# successful attacks concern only those who may query the model.
ENDPOINTS = Table(
    (
        Endpoint(
            name="predict",
            method="POST",
            paths=("/predict",),
            handler=predict.predict,
            tag=PREDICTION,
            summary="Classify one or several pictures",
            description=predict.DESCRIPTION,
            role=Role.PREDICT,
            takes=PICTURES,
            gives=predict.GIVES,
            queries=(frames.FRAME,),
            pictures=BATCH,
            audited=True,
            receipts=True,
            codes=(ErrorCode.FRAME_UNKNOWN,),
        ),
        Endpoint(
            name="explain",
            method="POST",
            paths=("/explain",),
            handler=explain.explain,
            tag=PREDICTION,
            summary="Show the regions of a picture that support a label",
            description=explain.DESCRIPTION,
            role=Role.PREDICT,
            takes=PICTURES,
            gives=explain.GIVES,
            queries=(explain.LABEL, frames.FRAME),
            pictures=1,
            audited=True,
            receipts=True,
            codes=(ErrorCode.LABEL_UNKNOWN, ErrorCode.FRAME_UNKNOWN),
        ),
        Endpoint(
            name="feedback",
            method="POST",
            paths=("/feedback",),
            handler=feedback.feedback,
            tag=PREDICTION,
            summary="Record what a clinician thinks of an answer",
            description=feedback.DESCRIPTION,
            role=Role.PREDICT,
            takes=(json_of(Feedback),),
            gives=feedback.GIVES,
            counted=True,
            codes=(
                ErrorCode.ANSWER_UNKNOWN,
                ErrorCode.LABEL_UNKNOWN,
                ErrorCode.AUDIT_UNAVAILABLE,
                ErrorCode.FEEDBACK_UNAVAILABLE,
            ),
        ),
        Endpoint(
            name="oipServer",
            method="GET",
            paths=("/v2", "/v2/"),
            handler=oip.server_metadata,
            tag=OIP,
            summary="Name and version of the server",
            role=Role.PREDICT,
            gives=oip.gives(oip.ServerMetadata),
        ),
        Endpoint(
            name="oipLive",
            method="GET",
            paths=("/v2/health/live",),
            handler=oip.live,
            tag=OIP,
            summary="200 while the process answers",
            gives=oip.gives(oip.ServerStatus),
            probe=True,
        ),
        Endpoint(
            name="oipReady",
            method="GET",
            paths=("/v2/health/ready",),
            handler=oip.ready,
            tag=OIP,
            summary="200 once a verified model is loaded",
            gives=oip.gives(oip.ServerStatus),
            codes=NOT_READY,
            probe=True,
        ),
        Endpoint(
            name="oipModel",
            method="GET",
            paths=_of_model(),
            label="/v2/models",
            handler=oip.model_metadata,
            tag=OIP,
            summary="Inputs and outputs",
            role=Role.PREDICT,
            gives=oip.gives(oip.ModelMetadata),
            codes=WRONG_MODEL,
        ),
        Endpoint(
            name="oipModelReady",
            method="GET",
            paths=_of_model("/ready"),
            label="/v2/models/ready",
            handler=oip.model_ready,
            tag=OIP,
            summary="200 if this model is live",
            gives=oip.gives(oip.ModelStatus),
            codes=(*WRONG_MODEL, ErrorCode.MODEL_WITHDRAWN),
            probe=True,
        ),
        Endpoint(
            name="oipInfer",
            method="POST",
            paths=_of_model("/infer"),
            label="/v2/models/infer",
            handler=oip.infer,
            tag=OIP,
            summary="Classify pictures sent as tensors or files",
            description=oip.DESCRIPTION,
            role=Role.PREDICT,
            takes=oip.TAKES,
            gives=oip.INFERRED,
            pictures=BATCH,
            audited=True,
            receipts=True,
            codes=(ErrorCode.TENSOR_INVALID, ErrorCode.MODEL_UNKNOWN),
        ),
        Endpoint(
            name="livez",
            method="GET",
            paths=("/livez",),
            handler=operation.alive,
            summary="200 while the process answers",
            gives=operation.YES,
            probe=True,
        ),
        Endpoint(
            name="healthz",
            method="GET",
            paths=("/healthz",),
            handler=operation.alive,
            summary="As `/livez`",
            gives=operation.YES,
            probe=True,
        ),
        Endpoint(
            name="readyz",
            method="GET",
            paths=("/readyz",),
            handler=operation.ready,
            summary="200 once a verified model is loaded",
            gives=operation.YES,
            codes=NOT_READY,
            probe=True,
        ),
        Endpoint(
            name="metrics",
            method="GET",
            paths=("/metrics",),
            handler=operation.scrape,
            summary="Metrics of all workers, in Prometheus' text format",
            role=Role.OPERATE,
            gives=operation.METRICS,
            probe=True,
        ),
        Endpoint(
            name="modelCard",
            method="GET",
            paths=("/model",),
            handler=operation.card,
            summary="Card of the live model: evaluation, robustness and limits",
            role=Role.PREDICT,
            gives=operation.CARD,
            codes=NO_MODEL,
        ),
        Endpoint(
            name="modelCardPage",
            method="GET",
            paths=("/model.html",),
            handler=operation.card,
            summary="The model card as a page",
            role=Role.PREDICT,
            gives=operation.CARD_PAGE,
            codes=NO_MODEL,
        ),
        Endpoint(
            name="receiptKey",
            method="GET",
            paths=("/receipts.pub",),
            handler=operation.receipt_public_key,
            summary="Public key that checks receipts, in PEM; `not_found` if the service signs none",
            gives=operation.RECEIPT_KEY,
            codes=(ErrorCode.NOT_FOUND,),
        ),
        Endpoint(name="index", method="GET", paths=("/",), handler=documentation.index, gives=PAGE, documented=False),
        Endpoint(name="docs", method="GET", paths=("/docs",), handler=documentation.page, gives=PAGE, documented=False),
        Endpoint(
            name="docsWithSlash",
            method="GET",
            paths=("/docs/",),
            label="/docs",
            handler=documentation.page_without_slash,
            gives=PAGE,
            documented=False,
        ),
        Endpoint(
            name="docsStart",
            method="GET",
            paths=("/docs/start.js",),
            label="/docs",
            handler=documentation.start_script,
            gives=SCRIPT,
            documented=False,
        ),
        Endpoint(
            name="docsAssets",
            method="GET",
            paths=("/docs/assets/{file:path}",),
            label="/docs",
            handler=documentation.asset,
            gives=SCRIPT,
            codes=(ErrorCode.NOT_FOUND,),
            documented=False,
        ),
        Endpoint(
            name="openapi",
            method="GET",
            paths=("/docs.json",),
            handler=documentation.openapi,
            gives=JSON,
            documented=False,
        ),
        Endpoint(
            name="bentomlSchema",
            method="GET",
            paths=("/schema.json",),
            handler=documentation.bentoml_schema,
            gives=JSON,
            documented=False,
        ),
    )
)
