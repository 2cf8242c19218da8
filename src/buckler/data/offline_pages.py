"""Makes Great Expectations' pages readable offline, and the same for the same result.

The original pages load styles, scripts and a logo from content delivery networks. A hospital network may block these,
and a request would reveal what is being read. They also contain the time and random ids.
"""

import re
from typing import Final

_BLOCK: Final = re.compile(r"<(script|style|footer)\b.*?</\1\s*>", re.DOTALL | re.IGNORECASE)
_LINK: Final = re.compile(r"<link\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_IMAGE: Final = re.compile(r"<img\b[^>]*?>", re.DOTALL | re.IGNORECASE)
_COMMENT: Final = re.compile(r"<!--.*?-->", re.DOTALL)
_ADDRESS: Final = re.compile(r"""\s(?:href|src|integrity|crossorigin)=["']?https?://[^"'\s>]*["']?""")
_RANDOM: Final = re.compile(r"(?<=-collapse-body)-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_UP: Final = re.compile(r"(?:\.\./)+")


def offline(page: str) -> str:
    """Return ``page`` without styles, scripts, images, external references and random ids.

    The library expects its pages deep in a tree; here each is one folder below the index.
    """
    for unwanted in (_COMMENT, _BLOCK, _LINK, _IMAGE, _ADDRESS, _RANDOM):
        page = unwanted.sub("", page)
    return _UP.sub("../", page)
