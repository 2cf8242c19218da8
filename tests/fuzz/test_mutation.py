"""Changes of inputs along their structure; the fuzzer's own changes of bytes are replaced by one that is known."""

import json

import pytest

from tests.fuzz import mutation, seeds
from tests.fuzz.table import TARGETS, Target
from tests.picture_bytes import chunk, png

STRUCTURED = [target for target in TARGETS.values() if target.mutator()]
DRAWS = range(30)


def middle_bit(data: bytes, most: int) -> bytes:
    middle = len(data) // 2
    return (data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :] if data else b"x")[:most]


@pytest.fixture(autouse=True)
def known_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mutation, "random_bytes", middle_bit)


@pytest.mark.parametrize("target", STRUCTURED, ids=lambda target: target.name)
def test_changed_inputs_differ_keep_the_limit_and_depend_on_the_seed_alone(target: Target):
    mutate = target.mutator()
    for data in seeds.of(target.name).values():
        changed = [mutate(data, 500, draw) for draw in DRAWS]
        assert changed == [mutate(data, 500, draw) for draw in DRAWS]
        assert set(changed) != {data}
        assert max(map(len, changed)) <= 500


@pytest.mark.parametrize("name", ["jpeg", "png", "dicom", "documents"])
def test_some_changed_inputs_are_still_accepted(name: str):
    """Random bytes are seldom accepted: a fuzzer would not get behind checksums, lengths and signatures."""
    target = TARGETS[name]
    run, mutate = target.load(), target.mutator()
    data = next(data for data in seeds.of(name).values() if run(data))
    accepted = [run(mutate(data, target.max_bytes, draw)) for draw in DRAWS]
    assert 0 < sum(accepted) < len(accepted)


def test_most_changes_of_a_document_are_other_documents():
    mutate = mutation.of_json()
    changed = [mutate(b'{"a":[1,"x",null],"b":{"c":0.5}}', 10_000, draw) for draw in range(200)]
    documents = [each for each in changed if is_json(each)]
    assert len(documents) > 100
    assert len(set(documents)) > 20


def is_json(content: bytes) -> bool:
    try:
        json.loads(content)
    except ValueError:
        return False
    return True


def test_the_checksum_of_a_changed_chunk_is_right():
    mutate = TARGETS["png"].mutator()
    changed = [mutate(png(chunk(b"tEXt", b"k\0value")), 10_000, draw) for draw in range(200)]
    assert any(chunk(b"tEXt", b"k\1value") in each for each in changed)
