"""The service with the endpoints of ``size_endpoint``, for ``bentoml serve``."""

from services.classifier.service import create
from services.classifier.settings import Settings
from tests.services.classifier.size_endpoint import TABLE

Classifier = create(Settings.from_env(), TABLE)
