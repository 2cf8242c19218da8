"""Names of what operating systems and programs leave in folders, which is neither a picture nor a class."""

import re
from typing import Final

# Reasons why an entry of a folder is skipped, as reports name them.
SYSTEM: Final = "left by an operating system or program"
HIDDEN: Final = "hidden"
ARCHIVE: Final = "archives, not opened: unpack them"

_FOLDERS: Final = re.compile(
    r"__macosx|@eadir|@recycle|@recently-snapshot|#recycle|#snapshot|\$recycle\.bin|recycler|lost\+found"
    r"|system volume information|network trash folder|temporary items"
    r"|\.(trash.*|trashes|spotlight-v100|fseventsd|documentrevisions-v100|temporaryitems|appledouble|@__thumb)",
    re.IGNORECASE,
)
_FILES: Final = re.compile(
    r"(eh)?thumbs.*\.db|desktop\.ini|folder\.htt|\.?picasa\.ini|zbthumbnail\.info|icon\r|\.ds_store|\.directory"
    r"|\._.*|~\$.*|~.*\.tmp|.*\.(part|partial|filepart|crdownload|download|tmp|swp)|.*~|\.nfs.*|\.fuse_hidden.*"
    r"|\.~lock\..*#|.+:(zone\.identifier|com\.apple\..*|afp_.*)",
    re.IGNORECASE | re.DOTALL,
)
_ARCHIVES: Final = re.compile(r".+\.(zip|rar|7z|tar|tgz|tbz2?|txz|gz|bz2|xz|zst|zipx|z\d\d)", re.IGNORECASE | re.DOTALL)


def reason(name: str, *, folder: bool) -> str | None:
    """Return why the entry ``name`` of a folder is no picture and no class; None if it may be one."""
    if (_FOLDERS if folder else _FILES).fullmatch(name):
        return SYSTEM
    if name.startswith("."):
        return HIDDEN
    return ARCHIVE if not folder and _ARCHIVES.fullmatch(name) else None
