"""The paths of the service: methods, roles and limits of each, and the form in which the rest of the code sees them.

The paths of the Open Inference Protocol contain the client's model name and version. ``canonical`` removes both, so
that the tables below apply to these paths too and no client's text becomes a metric label.
"""

import re
from collections.abc import Mapping

from starlette.types import Scope

from buckler.serving.api_keys import Role

PREDICT = "/predict"
EXPLAIN = "/explain"
METRICS = "/metrics"
RECEIPT_KEY = "/receipts.pub"
CARDS = (CARD, CARD_PAGE) = ("/model", "/model.html")
# The Open Inference Protocol's paths without the model's name and version.
OIP, OIP_MODEL, OIP_INFER = "/v2", "/v2/models", "/v2/models/infer"
OIP_PROBES = (OIP_LIVE, OIP_READY, OIP_MODEL_READY) = ("/v2/health/live", "/v2/health/ready", "/v2/models/ready")
PROBES = ("/livez", "/readyz", "/healthz", METRICS, *OIP_PROBES)

PICTURE_PATHS = (
    PREDICT,
    EXPLAIN,
    OIP_INFER,
)  # these take pictures; each request is counted, limited and logged for audit
PAGES = (RECEIPT_KEY, *CARDS, OIP, OIP_MODEL, *OIP_PROBES, "/", "/docs", "/docs.json", "/livez", "/readyz", "/healthz")
OTHER = "other"  # the metric label of every unknown path
ENDPOINTS = (*PICTURE_PATHS, *PAGES, METRICS, OTHER)

READ = ("GET", "HEAD")
METHODS: Mapping[str, tuple[str, ...]] = {
    path: ("POST",) if path in PICTURE_PATHS else READ for path in ENDPOINTS if path != OTHER
}

# All other paths are open: probes, because orchestrators and load balancers hold no key and learn only yes or no; the
# documentation pages, because future clients read them before they get a key. The model card is not: thresholds and
# successful attacks concern only those who may query the model.
REQUIRED_ROLES: Mapping[str, Role] = {
    **dict.fromkeys((*PICTURE_PATHS, *CARDS, OIP, OIP_MODEL), Role.PREDICT),
    METRICS: Role.OPERATE,
}
# Only costly requests are limited: a full service must still answer probes and scrapes.
LIMITED = PICTURE_PATHS

_MODEL_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<action>/ready|/infer)?")
_ACTIONS = {None: OIP_MODEL, "/ready": OIP_MODEL_READY, "/infer": OIP_INFER}


def canonical(scope: Scope) -> Scope:
    """Return ``scope`` with a path of ``ENDPOINTS`` where it is one; model name and version go to ``path_params``."""
    path: str = scope["path"]
    if found := _MODEL_PATH.fullmatch(path):
        named = {name: found[name] for name in ("name", "version") if found[name]}
        return {**scope, "path": _ACTIONS[found["action"]], "path_params": named}
    return {**scope, "path": OIP} if path == f"{OIP}/" else scope


def is_oip(path: str) -> bool:
    """Return whether ``path``, known or not, belongs to the protocol, which has its own form of error."""
    return f"{path}/".startswith(f"{OIP}/")
