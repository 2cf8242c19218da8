from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buckler.errors import BucklerError
from buckler.trust.hardware.uri import KeyUri, parse

ACCESS = "module-path=/m.so&pin-source=file:/pin"
SECRET = "4711secret"


def test_a_uri_names_one_key_of_one_token():
    assert parse(f"pkcs11:token=buckler;object=promotion;type=private?{ACCESS}") == KeyUri(
        module=Path("/m.so"), pin_file=Path("/pin"), token="buckler", serial=None, label="promotion", id=None
    )


def test_values_are_percent_decoded_and_an_id_may_be_any_bytes():
    uri = parse("pkcs11:serial=00%2f1;id=%00%FFa;object=a%20key%3B+b?module-path=/lib%20x/m.so&pin-source=/pin")
    assert (uri.serial, uri.id, uri.label, uri.module) == ("00/1", b"\x00\xffa", "a key;+b", Path("/lib x/m.so"))


@pytest.mark.parametrize("source", ["file:/run/pin", "file:///run/pin", "/run/pin"])
def test_a_pin_source_is_a_file_in_each_form_of_its_path(source):
    assert parse(f"pkcs11:token=t;id=%01?module-path=/m.so&pin-source={source}").pin_file == Path("/run/pin")


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("https://token=t", "begins with pkcs11:"),
        (f"pkcs11:object=k?{ACCESS}", "expected the token"),
        (f"pkcs11:token=t?{ACCESS}", "expected the key"),
        ("pkcs11:token=t;object=k?module-path=/m.so", "pin-source is missing"),
        ("pkcs11:token=t;object=k?pin-source=/pin", "module-path is missing"),
        ("pkcs11:token=t;object=k", "is missing"),
        (f"pkcs11:token=t;object=k;slot-id=3?{ACCESS}", "got 'slot-id'"),
        (f"pkcs11:token=t;object=k;type=cert?{ACCESS}", "type=private"),
        (f"pkcs11:token=t;object=k;token=u?{ACCESS}", "token is named twice"),
        (f"pkcs11:token=t;object=k;?{ACCESS}", "part 3"),
        (f"pkcs11:token=t;object=?{ACCESS}", "object is empty"),
        (f"pkcs11:token=t;object=%zz?{ACCESS}", "percent-encoded"),
        (f"pkcs11:token=t;object=a b?{ACCESS}", "percent-encoded"),
        (f"pkcs11:token=t;object=a/b?{ACCESS}", "percent-encoded"),
        (f"pkcs11:token=t;object=%ff?{ACCESS}", "not printable text"),
        (f"pkcs11:token=t;object=a%0ab?{ACCESS}", "not printable text"),
        (f"pkcs11:token=t;object=k?{ACCESS}&module-name=opensc", "got 'module-name'"),
        ("pkcs11:token=t;object=k?module-path=m.so&pin-source=/pin", "absolute path"),
        ("pkcs11:token=t;object=k?module-path=/m.so&pin-source=|cat%20/pin", "absolute path"),
        ("pkcs11:token=t;object=k?module-path=/m.so&pin-source=https://vault/pin", "absolute path"),
        ("pkcs11:token=t;object=k?module-path=/m.so&pin-source=file://host/pin", "absolute path"),
    ],
)
def test_a_malformed_uri_is_refused(uri, message):
    with pytest.raises(BucklerError, match="URI") as caught:
        parse(uri)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        f"module-path=/m.so&pin-value={SECRET}",
        f"module-path=/m.so&pin-valeu={SECRET}",
        f"module-path=/m.so&{SECRET}",
        f"module-path=/m.so&pin-source={SECRET}",
        f"module-path=/m.so&pin-source=%{SECRET}#",
        f"module-path=/m.so&{SECRET}=pin-source",
    ],
)
def test_a_pin_in_the_uri_is_refused_and_no_error_repeats_it(query):
    with pytest.raises(BucklerError, match="malformed") as caught:
        parse(f"pkcs11:token=t;object=k?{query}")
    assert SECRET not in str(caught.value)


PARTS = ["token=t", "object=k", "id=%01", "type=private", "module-path=/m.so", "pin-source=file:/p", "pin-value=x", "%"]


SOME = st.lists(st.one_of(st.sampled_from(PARTS), st.text(max_size=8)), max_size=5)


@given(SOME, SOME)
def test_any_text_is_a_key_or_one_error(path, query):
    try:
        found = parse(f"pkcs11:{';'.join(path)}?{'&'.join(query)}")
    except BucklerError:
        return
    assert found.token or found.serial
    assert found.label or found.id
    assert found.module.is_absolute()
    assert found.pin_file.is_absolute()
