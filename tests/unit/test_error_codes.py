"""The closed list of error codes, and the errors that carry them."""

import json

import pandas as pd
import pytest

from buckler.client import AccessError, ImageError, RequestError, ServiceError, UnavailableError
from buckler.client.errors import service_error
from buckler.error_codes import ErrorCode, Group
from buckler.errors import LimitError, UnusableImageError


@pytest.mark.parametrize("code", ErrorCode)
def test_each_code_has_an_error_status_a_meaning_and_advice(code):
    assert 400 <= code.status < 600
    assert code.meaning
    assert code.advice
    for text in (code.meaning, code.advice):
        assert text[0].islower()
        assert not text.endswith(".")
    assert code.message == f"{code.meaning}; {code.advice}"


def test_each_code_has_a_name_like_its_value():
    assert [code.name.lower() for code in ErrorCode] == [code.value for code in ErrorCode]


def test_statuses_tell_errors_of_the_caller_from_errors_of_the_service():
    assert all(code.status < 500 for code in ErrorCode if code.group is not Group.UNAVAILABLE)
    assert all(code.group is Group.UNAVAILABLE for code in ErrorCode if code.status >= 500)


@pytest.mark.parametrize(
    ("code", "cls"),
    [
        (ErrorCode.DECODE_TIMEOUT, ImageError),
        (ErrorCode.BODY_TIMEOUT, RequestError),
        (ErrorCode.QUERY_ATTACK, AccessError),
        (ErrorCode.TIMEOUT, UnavailableError),
    ],
)
def test_the_client_raises_the_exception_of_the_group_with_the_advice(code, cls):
    error = service_error(code.value, "the text of the service")
    assert type(error) is cls
    assert (str(error), error.advice) == (f"{code}: the text of the service", code.advice)


def test_each_code_belongs_to_one_class_of_exceptions():
    classes = {group: {type(service_error(code, "")) for code in ErrorCode if code.group is group} for group in Group}
    assert {len(found) for found in classes.values()} == {1}
    assert set.union(*classes.values()) == {ImageError, RequestError, AccessError, UnavailableError}


def test_a_code_of_a_newer_service_raises_the_base_class_without_advice():
    error = service_error("brand_new", "text")
    assert (type(error), error.code, error.advice) == (ServiceError, "brand_new", None)
    assert ErrorCode.known("brand_new") is None


def test_a_code_equals_and_is_written_as_its_text():
    assert ErrorCode.IMAGE_EMPTY == "image_empty"
    assert ErrorCode.known("image_empty") is ErrorCode.IMAGE_EMPTY
    assert json.dumps({"code": ErrorCode.IMAGE_EMPTY}) == '{"code": "image_empty"}'
    assert pd.DataFrame({"code": [ErrorCode.IMAGE_EMPTY]}).to_csv(index=False, lineterminator="\n") == (
        "code\nimage_empty\n"
    )


def test_an_error_accepts_only_the_codes_of_its_kind():
    with pytest.raises(ValueError, match=r"expected one of image_empty, .*, got decode_timeout"):
        UnusableImageError(ErrorCode.DECODE_TIMEOUT, "text")
    with pytest.raises(ValueError, match=r"expected one of overloaded, .*, got timeout"):
        LimitError(ErrorCode.TIMEOUT, "text", retry_after=1)
    assert {code.group for code in UnusableImageError.CODES} == {Group.IMAGE}
    assert {code.group for code in LimitError.CODES} == {Group.UNAVAILABLE}
