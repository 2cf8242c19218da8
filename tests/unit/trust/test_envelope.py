import json

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from buckler.errors import VerdictError
from buckler.trust.envelope import open_payload, parse_object, pre_authentication_encoding, sign
from buckler.trust.public_keys import PublicKeys

TYPE = "application/vnd.in-toto+json"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = PublicKeys.of(KEY.public_key())


def test_the_encoding_matches_the_dsse_example():
    # The example of the DSSE v1 protocol text.
    encoded = pre_authentication_encoding("http://example.com/HelloWorld", b"hello world")
    assert encoded == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


@settings(max_examples=50)
@given(
    st.dictionaries(
        st.text(),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        ),
    )
)
def test_opening_an_envelope_returns_the_signed_statement(statement):
    try:
        envelope = sign(statement, KEY, payload_type=TYPE)
    except UnicodeEncodeError:  # lone surrogates cannot be encoded
        return
    found = open_payload(json.loads(json.dumps(envelope)), PUBLIC, payload_types=("other", TYPE))
    assert (found.payload_type, parse_object(found.payload, "it")) == (TYPE, statement)
    assert found.signers == PUBLIC.ids


def test_a_number_that_json_cannot_express_is_not_signed():
    with pytest.raises(ValueError, match="JSON"):
        sign({"accuracy": float("nan")}, KEY, payload_type=TYPE)


def test_an_unexpected_payload_type_is_refused_and_the_type_is_signed():
    envelope = sign({"a": 1}, KEY, payload_type=TYPE)
    with pytest.raises(VerdictError, match="expected payloadType 'other', got 'application/vnd"):
        open_payload(envelope, PUBLIC, payload_types=("other",))
    with pytest.raises(VerdictError, match="does not match the statement"):
        open_payload({**envelope, "payloadType": "other"}, PUBLIC, payload_types=("other",))


def test_duplicate_keys_are_refused():
    with pytest.raises(VerdictError, match="duplicate key"):
        parse_object(b'{"passed": false, "passed": true}', "it")


@pytest.mark.parametrize("name", ["payloadType", "payload", "signatures", "keyid", "extra"])
@pytest.mark.parametrize("value", ["x" * 100_000, ["x" * 1000] * 1000, {"x" * 100_000: 1}])
def test_the_message_about_an_unsigned_document_is_short(name, value):
    envelope = sign({}, KEY, payload_type=TYPE)
    if name == "keyid":
        envelope["signatures"][0]["keyid"] = value
    else:
        envelope[name] = value
    with pytest.raises(VerdictError) as caught:
        open_payload(envelope, PUBLIC, payload_types=(TYPE,))
    assert len(str(caught.value)) < 1000
