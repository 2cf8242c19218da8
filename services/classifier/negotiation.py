"""Which format of an answer a client gets, by its header ``Accept``.

A header that names none of the formats gets the default one, as RFC 9110 allows: many clients write it carelessly.
A client of a standard, FHIR, is refused instead where it would get something else than this standard.

Source: RFC 9110, section 12.5.1; https://hl7.org/fhir/R4/http.html#mime-type.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from buckler.error_codes import ErrorCode
from services.classifier.contract import ErrorForm, RefusalError
from services.classifier.routing import Format

_XML = ("application/xml", "text/xml")
_ANY = ("application/json", "application/*", "*/*")  # what a client of FHIR also names for its JSON


class NotAcceptableError(RefusalError):
    """No format of an answer is one that the client asks for.

    Attributes:
        form: How the error is written to this client.
    """

    def __init__(self, formats: Sequence[Format], form: ErrorForm) -> None:
        served = " or ".join(each.media_type for each in formats)
        versions = "".join(f", {name}={value}" for each in formats for name, value in each.parameters)
        super().__init__(ErrorCode.NOT_ACCEPTABLE, f"expected a header Accept with {served}{versions}, got others only")
        self.form = form


@dataclass(frozen=True, slots=True)
class _Range:
    """One media type of the header, in lower case, with its weight in 0..1."""

    media_type: str
    parameters: dict[str, str]
    weight: float


def choose(formats: Sequence[Format], accept: str) -> Format:
    """Return the format that an ``Accept`` header prefers; the first of ``formats`` unless it names another one.

    Of two with the same weight the later one wins: a client that names a special format wants it.

    Raises:
        NotAcceptableError: The client asks for a standard, or for XML, and accepts nothing that is served.
    """
    wanted = [each for each in _ranges(accept) if each.weight > 0]
    weight, place = max((_weight(each, wanted), place) for place, each in enumerate(formats))
    if weight > 0:
        return formats[place]
    for each in formats:
        if any(_of_standard(each, one) for one in wanted):
            raise NotAcceptableError((each,), each.error_form)
    standards = any(each.standard for each in formats)
    if standards and wanted and all(each.media_type in _XML for each in wanted):
        raise NotAcceptableError(formats, formats[0].error_form)
    return formats[0]


def _weight(form: Format, wanted: Sequence[_Range]) -> float:
    """Return the largest weight of what names a format, or else of what its standard's clients also accept."""
    named = [each.weight for each in wanted if _names(form, each)]
    if not named and any(_of_standard(form, each) for each in wanted):
        named = [each.weight for each in wanted if each.media_type in _ANY]
    return max(named, default=0.0)


def _names(form: Format, wanted: _Range) -> bool:
    stated = ((wanted.parameters.get(name.lower(), value), value) for name, value in form.parameters)
    fitting = all(_fits(each, served) for each, served in stated)
    return wanted.media_type in (form.media_type, *form.aliases) and fitting


def _of_standard(form: Format, wanted: _Range) -> bool:
    """Return whether a client asks for the standard of a format, in whatever form and version."""
    return wanted.media_type in form.standard


def _fits(version: str, served: str) -> bool:
    return version == served or version.startswith(f"{served}.")


def _ranges(accept: str) -> Iterator[_Range]:
    for each in accept.lower().split(","):
        media_type, *texts = (part.strip() for part in each.split(";"))
        pairs = (text.partition("=") for text in texts)
        parameters = {name.strip(): value.strip().strip('"') for name, _, value in pairs}
        try:
            yield _Range(media_type, parameters, float(parameters.pop("q", "1")))
        except ValueError:  # an invalid weight: ignore the media type
            continue
