from typing import Annotated, Literal

import pytest
from pydantic import Field

from buckler.errors import ParamsError
from buckler.serving.settings import EnvironmentSettings, SettingUnit, Url, variable


class Example(EnvironmentSettings):
    pumps: Annotated[int, SettingUnit("pumps")] = Field(default=2, ge=1)
    """Pumps in use."""

    mode: Literal["auto", "manual"] = "auto"
    """Who starts them."""

    pump_url: Url = "http://127.0.0.1:1"
    """Where they are controlled."""

    pump_pin: int = Field(default=0, repr=False)
    """Secret."""


def test_settings_come_from_variables_with_the_prefix(monkeypatch):
    monkeypatch.setenv("BUCKLER_PUMPS", "3")
    monkeypatch.setenv("PUMPS", "4")
    monkeypatch.setenv("BUCKLER_UNKNOWN", "x")
    monkeypatch.setenv("BUCKLER_MODE", "")
    settings = Example.from_env()
    assert (settings.pumps, settings.mode) == (3, "auto")
    assert variable("pumps") == "BUCKLER_PUMPS"


def test_a_variable_in_lower_case_is_ignored(monkeypatch):
    monkeypatch.setenv("buckler_pumps", "3")
    monkeypatch.setenv("BUCKLER_pumps", "4")
    assert Example.from_env().pumps == 2


def test_arguments_precede_the_environment_and_unknown_ones_are_errors(monkeypatch):
    monkeypatch.setenv("BUCKLER_PUMPS", "3")
    assert Example(pumps=5).pumps == 5
    with pytest.raises(ValueError, match="pipes"):
        Example(pipes=5)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("BUCKLER_PUMPS", "many", "BUCKLER_PUMPS: expected a valid integer, got 'many'"),
        ("BUCKLER_PUMPS", "0", "BUCKLER_PUMPS: expected greater than or equal to 1, got '0'"),
        ("BUCKLER_MODE", "on", "BUCKLER_MODE: expected 'auto' or 'manual', got 'on'"),
        (
            "BUCKLER_PUMP_URL",
            "pumps:80",
            "BUCKLER_PUMP_URL: expected a URL that starts with http:// or https://, got 'pumps:80'",
        ),
        ("BUCKLER_PUMP_PIN", "hunter2", "BUCKLER_PUMP_PIN: expected a valid integer"),
    ],
)
def test_an_error_names_the_variable_the_expected_and_the_given_value_unless_it_is_a_secret(
    name, value, message, monkeypatch
):
    monkeypatch.setenv(name, value)
    with pytest.raises(ParamsError) as caught:
        Example.from_env()
    assert str(caught.value) == f"environment: {message}"
    if name == "BUCKLER_PUMP_PIN":
        assert value not in str(caught.value.__cause__)


def test_all_wrong_variables_are_named_in_one_line(monkeypatch):
    monkeypatch.setenv("BUCKLER_PUMPS", "many")
    monkeypatch.setenv("BUCKLER_MODE", "on")
    with pytest.raises(ParamsError, match=r"^environment: BUCKLER_PUMPS: .*; BUCKLER_MODE: .*$"):
        Example.from_env()


def test_a_secret_is_not_shown_and_settings_cannot_be_changed():
    assert "1234" not in repr(Example(pump_pin=1234))
    with pytest.raises(ValueError, match="frozen"):
        Example().pumps = 3
