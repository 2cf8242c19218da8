"""Base class of the settings that a process reads from environment variables ``BUCKLER_<NAME>``."""

from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import AfterValidator, AliasGenerator, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from buckler.errors import ParamsError
from buckler.state import paths

PREFIX = "BUCKLER_"
TRAFFIC_URL = f"sqlite:///{paths.TRAFFIC_DATABASE}"  # the default of the service and of the watch
# Requests of the watch are recognised by the name of their key or, where no keys are required, by this header.
WATCH_KEY_NAME = "watch"
WATCH_HEADER = "x-buckler-watch"


@dataclass(frozen=True, slots=True)
class SettingUnit:
    """Unit or kind of a setting's value, for the reference documentation."""

    name: str


def _check_url(text: str) -> str:
    if not text.startswith(("http://", "https://")):
        raise ValueError("expected a URL that starts with http:// or https://")
    return text


Url = Annotated[str, AfterValidator(_check_url), SettingUnit("URL")]


def variable(field: str) -> str:
    """Return the environment variable that ``field`` is read from."""
    return PREFIX + field.upper()


class EnvironmentSettings(BaseSettings):
    """Settings of one process; the field ``workers`` is read from the variable ``BUCKLER_WORKERS``, in capitals.

    An empty variable counts as not set, and a variable without a field is ignored. The docstring below a field is its
    description in the reference documentation. A field with ``repr=False`` is a secret: neither errors nor ``repr``
    show its value.
    """

    model_config = SettingsConfigDict(
        # An alias instead of ``env_prefix``: with ``case_sensitive``, that expects BUCKLER_workers.
        alias_generator=AliasGenerator(validation_alias=variable),
        validate_by_name=True,
        validate_by_alias=True,
        case_sensitive=True,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @classmethod
    def from_env(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            ParamsError: A value has the wrong type or is out of range.
        """
        try:
            return cls()
        except ValidationError as error:
            raise ParamsError(f"environment: {'; '.join(map(cls._fault, error.errors()))}") from error

    @classmethod
    def _fault(cls, fault: Any) -> str:
        name = fault["loc"][0]
        expected = fault["msg"].removeprefix("Value error, ").replace("Input should be", "expected")
        secret = any(field.validation_alias == name and not field.repr for field in cls.model_fields.values())
        got = "" if secret else f", got {fault['input']!r}"
        return f"{name}: {expected.partition(', unable to parse')[0]}{got}"
