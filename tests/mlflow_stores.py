"""The stores that MLflow has opened in this process."""

from collections.abc import Iterator
from contextlib import contextmanager

from mlflow.store.model_registry import sqlalchemy_store as models
from mlflow.store.tracking import sqlalchemy_store as runs
from mlflow.tracking._model_registry.registry import ModelRegistryStoreRegistry
from mlflow.tracking._tracking_service.registry import TrackingStoreRegistry


@contextmanager
def opened_anew() -> Iterator[None]:
    """Let MLflow open its databases again, and once more behind the block.

    It keeps them by address, and the address of a project's own database is relative: the next test's project, in
    another folder, would get the database of an earlier one.
    """
    _forget()
    try:
        yield
    finally:
        _forget()


def _forget() -> None:
    for registry in (TrackingStoreRegistry, ModelRegistryStoreRegistry):
        registry._get_store_with_resolved_uri.cache_clear()
    for store in (runs.SqlAlchemyStore, models.SqlAlchemyStore):
        while store._engine_map:
            store._engine_map.popitem()[1].dispose()
