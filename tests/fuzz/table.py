"""The fuzz targets: every parser of bytes that somebody outside sends, or can write to registry, log or journal.

Importing this module loads none of them: a fuzzer must import the code that it instruments itself.
"""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

from tests.fuzz.mutation import Mutator

CORPUS = Path(__file__).parent / "corpus"
Inputs = Mapping[str, bytes]  # by name
OURS = ("buckler", "services")


@dataclass(frozen=True, slots=True)
class Target:
    """One parser.

    Attributes:
        name: Name of the target, and of its function in ``module``: it takes an input, returns whether the parser
            accepted it, and raises if the parser broke its contract.
        module: Module below ``tests.fuzz``.
        parsers: Packages of other projects that parse the input; they are instrumented, too.
        max_bytes: Largest input.
        max_seconds: Largest processor time of one input.
        max_mebibytes: Largest memory of one input.
        words: Words that inputs contain, for the fuzzer's dictionary.
    """

    name: str
    module: str
    parsers: tuple[str, ...] = ()
    max_bytes: int = 16_384
    max_seconds: float = 10
    max_mebibytes: int = 128
    words: tuple[bytes, ...] = field(default=(), repr=False)

    @property
    def instrumented(self) -> tuple[str, ...]:
        """The packages whose coverage guides the fuzzer."""
        return (*OURS, *self.parsers)

    @property
    def corpus(self) -> Path:
        """The committed inputs."""
        return CORPUS / self.name

    def load(self) -> Callable[[bytes], bool]:
        """Return the function."""
        function: Callable[[bytes], bool] = getattr(self._module(), self.name)
        return function

    def mutator(self) -> Mutator | None:
        """Return the function that changes inputs along their structure; None for one without structure."""
        mutators: Mapping[str, Mutator] = getattr(self._module(), "MUTATORS", {})
        return mutators.get(self.name)

    def _module(self) -> ModuleType:
        return importlib.import_module(f"tests.fuzz.{self.module}")


_FIELDS = (b'"subject"', b'"predicate"', b'"digest"', b'"sha256"', b'"sequence"', b'"previous"', b"sha256:", b"+00:00")
_NUMBERS = (b"NaN", b"1e999", b"-0", b"null", b"true", b'"\\ud800"', b"9" * 400)

_ALL = (
    Target("jpeg", "pictures", ("PIL",), max_mebibytes=96, words=(b"\xff\xd8", b"\xff\xd9", b"\xff\xda", b"Exif\0\0")),
    Target("png", "pictures", ("PIL",), max_mebibytes=96, words=(b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"acTL")),
    Target("dicom", "pictures", ("pydicom",), words=(b"DICM", b"\xfe\xff\x00\xe0", b"\xfe\xff\xdd\xe0", b"\xff" * 4)),
    Target("heads", "heads", ("h11",), words=(b"\r\n\r\n", b"Content-Length: ", b"Transfer-Encoding: chunked")),
    Target("form", "bodies", words=(b"Content-Disposition: form-data; name=", b'"image"')),
    Target("tensors", "bodies", words=(b'"inputs"', b'"shape"', b'"data"', b'"FP32"', b'"BYTES"', *_NUMBERS)),
    Target("door", "door", max_mebibytes=192, words=(b"Bearer ", b"ed25519", b"q=0.5")),
    Target("envelope", "documents", words=(b'"payload"', b'"payloadType"', b'"signatures"', b'"keyid"', b'"sig"')),
    Target("documents", "documents", words=(*_FIELDS, *_NUMBERS)),
    Target("records", "documents", words=(*_FIELDS, *_NUMBERS)),
    Target("receipt", "documents", words=(b'"receipt"', b'"answer"', *_FIELDS, *_NUMBERS)),
    Target("answers", "answers", words=(b'"receipt"', b'"error"', b'"answers"', b'"retry-after"', *_NUMBERS)),
    Target("metadata", "suppliers", max_mebibytes=64, words=(b"file,label,lesion_id", b"metadata_", b'""')),
    Target("audit", "logs", words=(b'"schema":1', b'"sequence":', b'"previous":"sha256:', b'"recovered"')),
    Target("journal", "logs", words=(b'"record"', b'"adopted"', *_FIELDS)),
)
TARGETS: Mapping[str, Target] = {target.name: target for target in _ALL}
