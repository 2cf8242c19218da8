"""The Open Inference Protocol's paths name model and version; everything behind sees them without, as in ``metrics``.

Tables of methods, roles and limits then hold these paths too, and no client's word becomes a label.
"""

import re

from starlette.types import Scope

from services.classifier import metrics

_MODEL_PATH = re.compile(r"/v2/models/(?P<name>[^/]+)(?:/versions/(?P<version>[^/]+))?(?P<action>/ready|/infer)?")
_ACTIONS = {None: metrics.OIP_MODEL, "/ready": metrics.OIP_MODEL_READY, "/infer": metrics.OIP_INFER}


def canonical(scope: Scope) -> Scope:
    """Return ``scope`` with a path of ``metrics.ENDPOINTS`` where it is one; names go to ``path_params``."""
    path: str = scope["path"]
    if found := _MODEL_PATH.fullmatch(path):
        named = {name: found[name] for name in ("name", "version") if found[name]}
        return {**scope, "path": _ACTIONS[found["action"]], "path_params": named}
    return {**scope, "path": metrics.OIP} if path == f"{metrics.OIP}/" else scope


def is_oip(path: str) -> bool:
    """Tell whether ``path`` is the protocol's, known or not: its errors have another form."""
    return f"{path}/".startswith(f"{metrics.OIP}/")
