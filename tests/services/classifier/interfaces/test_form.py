"""Which forms are accepted, and that only the pictures are read from them."""

import pytest

from services.classifier.contract import RefusalError
from services.classifier.interfaces.bodies import PICTURES
from services.classifier.interfaces.form import MAX_PARTS, PictureForm

BOUNDARY = b"frontier"
TYPE = "multipart/form-data; boundary=frontier"


def part(name: bytes, content: bytes, *, filename: bytes | None = b"a.jpg") -> bytes:
    disposition = b'form-data; name="%b"' % name + (b'; filename="%b"' % filename if filename is not None else b"")
    return b"--%b\r\nContent-Disposition: %b\r\n\r\n%b\r\n" % (BOUNDARY, disposition, content)


def read(body: bytes, content_type: str = TYPE, *, step: int | None = None) -> bytes:
    (picture,) = read_all(body, content_type, step=step)
    return picture


def read_all(body: bytes, content_type: str = TYPE, *, most: int = 1, step: int | None = None) -> tuple[bytes, ...]:
    form = PictureForm(content_type, most=most)
    for start in range(0, len(body), step or max(1, len(body))):
        form.feed(body[start : start + (step or len(body))])
    return form.files()


END = b"--frontier--\r\n"


def named(disposition: bytes) -> bytes:
    return b"--frontier\r\nContent-Disposition: form-data; %b\r\nContent-Type: image/jpeg\r\n\r\nx\r\n" % disposition


def with_header(header: bytes, content: bytes) -> bytes:
    return part(b"image", content).replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n", 1)


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


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "body_malformed"),
        (b"no form at all", "body_malformed"),
        (part(b"image", b"x"), "body_malformed"),
        (part(b"picture", b"x") + END, "field_missing"),
        (part(b"image", b"http://10.0.0.1/", filename=None) + END, "field_missing"),
        (part(b"image", b"x") + part(b"image", b"y") + END, "field_repeated"),
        (named(b'name="image"').replace(b"image/jpeg", b"text/plain") + END, "field_missing"),
        (part(b"image", b"x") + part(b"note", b"y", filename=None) + END, "field_unknown"),
        (part(b"image", b"x") + part(b"n", b"") * MAX_PARTS + END, "field_unknown"),
        (b"x" + part(b"image", b"x") + END, "field_missing"),  # all of it is a preamble
        (part(b"image", b"x") + b"--frontierX\r\n" + END, "body_malformed"),
        (part(b"image", b"x") + b"--frontier" + b" " * 300 + b"\r\n" + END, "body_malformed"),
        (part(b"image", b"x") + b"--frontier--X", "body_malformed"),
        (part(b"image", b"x").replace(b"\r\n", b"\n") + END, "body_malformed"),
        (part(b"image", b"x", filename=b'a.jpg"; name="other') + END, "body_malformed"),
        (part(b"image", b"x", filename=b'a.jpg"; filename="b.jpg') + END, "body_malformed"),
        (part(b"image", b"x", filename=b"a.jpg\r\nContent-Disposition: form-data") + END, "body_malformed"),
        (part(b"image", b"x", filename=b'a.jpg"b"') + END, "body_malformed"),
        (part(b"image", b"x", filename=b"a" * 9000) + END, "body_malformed"),
        (with_header(b"Content-Transfer-Encoding: base64", b"eA==") + END, "body_malformed"),
        (with_header(b"no header", b"x") + END, "body_malformed"),
        (with_header(b"X-A: b\nX-C: d", b"x") + END, "body_malformed"),
        (b"--frontier\r\n\r\nx\r\n" + END, "field_missing"),
    ],
)
def test_every_other_form_is_refused_with_its_code(body, code):
    with pytest.raises(RefusalError) as caught:
        read(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "body",
    [
        named(b"name=\"image\"; filename*=UTF-8''L%C3%A4sion.jpg") + END,
        named(b'name="image"; filename="L_sion.jpg"; filename*=utf-8\'de\'L%C3%A4sion.jpg') + END,
        named(b'name="image"; filename*0="Erika"; filename*1=".jpg"') + END,
        named(b"name=image; filename=a.jpg") + END,
        named(b'name="image"') + END,  # RFC 7578, section 4.2: a file may have no name
        named(b'name="image"').replace(b"image/jpeg", b"Application/DICOM; x=y") + END,
        named(b'NAME="image" ; FileName = ""') + END,
        named(b'name="image"; filename="a;\\"b=c.jpg"; size=3') + END,
        named(b'name="image"; filename="C:\\Erika\\a.jpg";;') + END,
        named(b'name="image";\r\n\tfilename="L\xc3\xa4sion.jpg"') + END,
        b"This is a multi-part message in MIME format.\r\n" + named(b'name="image"; filename="a"') + END,
        b"\r\n" + named(b'name="image"; filename="a"') + END,
        b"a preamble with --frontier in a line\r\n" + named(b'name="image"; filename="a"') + END,
        named(b'name="image"; filename="a"') + END + b"an epilogue\r\n--frontier\r\n",
        named(b'name="image"; filename="a"') + b"--frontier--",
        named(b'name="image"; filename="a"') + b"--frontier--\t \r\n",
        named(b'name="image"; filename="a"').replace(b"--frontier", b"--frontier \t ") + b"--frontier-- \r\nx",
        with_header(b"Content-Transfer-Encoding: Binary", b"x") + END,
    ],
)
@pytest.mark.parametrize("step", [1, 5, None])
def test_what_the_standards_let_clients_send_is_a_form(body: bytes, step: int | None):
    assert read(body, step=step) == b"x"


@pytest.mark.parametrize(
    "content", [b"", b"\r\n", b"\r\n--", b"--frontier", b"\n--frontier--\r\n", b"-\r\n-\r\n--frontie"]
)
@pytest.mark.parametrize("step", [1, 3, None])
def test_a_content_that_resembles_a_boundary_is_content(content: bytes, step: int | None):
    assert read(part(b"image", content) + END, step=step) == content


@pytest.mark.parametrize(
    "boundary",
    ["", "; boundary=", f"; boundary={'b' * 71}", "; charset=utf-8", "; boundary=a; boundary=b", '; boundary="a'],
)
def test_a_form_without_a_valid_boundary_is_refused_before_it_is_read(boundary: str):
    with pytest.raises(RefusalError) as caught:
        PictureForm(f"multipart/form-data{boundary}")
    assert caught.value.code == "media_type_unsupported"


def test_the_first_body_of_pictures_is_a_form():
    assert isinstance(PICTURES[0].reader(TYPE, 1), PictureForm)
