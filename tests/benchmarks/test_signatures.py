"""Measuring keys, one of them in a real token."""

from benchmarks import results, signatures
from benchmarks.signatures import Speed
from buckler.trust import hardware
from tests.softhsm import SoftHSM


def test_both_keys_are_measured_and_written(softhsm: SoftHSM, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    softhsm.add_token("measured")
    uri = softhsm.uri("measured")
    hardware.create_key(uri)
    signatures.run(uri, "a token", 3, tmp_path)
    rows = results.read(tmp_path / "signatures.json").tables["speed"].rows
    assert [row["key"] for row in rows] == ["a file", "a token"]
    assert all(row["per_second"] > 0 and row["first_ms"] > 0 for row in rows)


def test_the_first_signature_is_not_counted_among_the_others():
    class Slow:
        def __init__(self):
            self.signed = 0

        def sign(self, data: bytes) -> bytes:
            self.signed += 1
            return data

    key = Slow()
    found = signatures.measure(lambda: key, 4)
    assert key.signed == 5
    assert isinstance(found, Speed)
