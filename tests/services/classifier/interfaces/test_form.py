"""Which forms are accepted, and that only the pictures are read from them."""

import pytest

from services.classifier.contract import ERRORS, RefusalError, code_and_message
from services.classifier.interfaces.form import MAX_PARTS, PictureForm, rebuild

BOUNDARY = b"frontier"
TYPE = b"multipart/form-data; boundary=frontier"


def part(name: bytes, content: bytes, *, filename: bytes | None = b"a.jpg") -> bytes:
    disposition = b'form-data; name="%b"' % name + (b'; filename="%b"' % filename if filename is not None else b"")
    return b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (BOUNDARY, disposition, content)


def read(body: bytes, content_type: bytes = TYPE, *, step: int | None = None) -> bytes:
    (picture,) = read_all(body, content_type, step=step)
    return picture


def read_all(body: bytes, content_type: bytes = TYPE, *, most: int = 1, step: int | None = None) -> tuple[bytes, ...]:
    form = PictureForm(content_type, most=most)
    for start in range(0, len(body), step or max(1, len(body))):
        form.feed(body[start : start + (step or len(body))])
    return form.pictures()


END = b"--frontier--\r\n"


@pytest.mark.parametrize("step", [1, 7, None])
def test_the_picture_is_read_in_chunks_of_any_size(step):
    content = bytes(range(256)) + b"\r\n--front"
    assert read(part(b"image", content) + END, step=step) == content


@pytest.mark.parametrize("step", [1, 7, None])
def test_several_pictures_are_read_in_order_up_to_the_limit(step):
    contents = [b"\xff\xd8 one\r\n", b"", b"three"]
    parts = [part(b"image", content) for content in contents]
    assert read_all(b"".join(parts) + END, most=3, step=step) == tuple(contents)
    with pytest.raises(RefusalError) as caught:
        read_all(b"".join(parts) + END, most=2, step=step)
    assert caught.value.code == "too_many_pictures"


def test_a_batch_may_have_more_parts_than_other_forms():
    parts = [part(b"image", b"x")] * (MAX_PARTS + 4)
    assert len(read_all(b"".join(parts) + END, most=MAX_PARTS + 4)) == MAX_PARTS + 4


@pytest.mark.parametrize("text_first", [True, False])
def test_a_text_field_beside_pictures_is_an_unknown_field(text_first):
    parts = [part(b"image", b"http://10.0.0.1/", filename=None), part(b"image", b"x")]
    with pytest.raises(RefusalError) as caught:
        read_all(b"".join(parts if text_first else parts[::-1]) + END, most=4)
    assert caught.value.code == "field_unknown"


def test_a_rebuilt_form_has_the_same_picture_and_no_file_name():
    content_type, body = rebuild(b"\xff\xd8 pixels \r\n")
    assert read(body, content_type) == b"\xff\xd8 pixels \r\n"
    assert b"a.jpg" not in body


def test_an_empty_file_is_left_to_the_decoder_to_refuse():
    assert read(part(b"image", b"") + END) == b""


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "body_malformed"),
        (b"no form at all", "body_malformed"),
        (part(b"image", b"x"), "body_malformed"),
        (part(b"picture", b"x") + END, "field_missing"),
        (part(b"image", b"http://10.0.0.1/", filename=None) + END, "field_missing"),
        (part(b"image", b"x") + part(b"image", b"y") + END, "field_repeated"),
        (part(b"image", b"x") + part(b"note", b"y", filename=None) + END, "field_unknown"),
        (part(b"image", b"x") + part(b"n", b"") * MAX_PARTS + END, "field_unknown"),
    ],
)
def test_every_other_form_is_refused_with_its_code(body, code):
    with pytest.raises(RefusalError) as caught:
        read(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "content_type",
    [b"", b"application/json", b"application/x-www-form-urlencoded", b"multipart/form-data", b"image/jpeg"],
)
def test_a_body_that_is_not_a_multipart_form_is_refused_before_it_is_read(content_type):
    with pytest.raises(RefusalError) as caught:
        PictureForm(content_type)
    assert caught.value.code == "media_type_unsupported"


@pytest.mark.parametrize("code", sorted(ERRORS))
def test_a_refusal_keeps_its_code_through_bentomls_error_format(code):
    status, _ = ERRORS[code]
    body = [{"error": str(RefusalError(code, "because: so"))}]
    assert code_and_message(status, body) == (code, "because: so")


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (400, {"error": "1 validation error", "detail": [{"input": "secret"}]}, "bad_request"),
        (422, [{"error": "nonsense: secret"}], "bad_request"),
        (404, None, "not_found"),
        (405, "Method Not Allowed", "method_not_allowed"),
        (503, None, "no_verified_model"),
        (500, {"error": "secret"}, "internal_error"),
    ],
)
def test_bentomls_own_errors_get_a_code_and_their_text_is_not_forwarded(status, body, code):
    assert code_and_message(status, body) == (code, None)


def test_every_code_of_the_decoder_has_a_status():
    from buckler.errors import UnusableImageError

    assert set(UnusableImageError.CODES) <= set(ERRORS)
    assert all(400 <= ERRORS[code][0] < 500 for code in UnusableImageError.CODES)
