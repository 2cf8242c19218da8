"""What every program of the project does first."""

from pathlib import Path

from buckler.errors import FolderError
from buckler.state import parents, proxies

RUNS = Path(__file__).resolve().parents[3]  # the folder of the code that runs
CODE = Path("src/buckler/__init__.py")


def begin(project: Path | None = None) -> None:
    """Keep requests to this machine away from proxies, end with the parent, and refuse another folder's code.

    Args:
        project: The project's folder; by default the working directory, which need not be a project.

    Raises:
        FolderError: The folder has code of its own, and the code of another one runs.
    """
    proxies.exempt_loopback()
    check_code(project or Path.cwd())
    parents.end_with_parent()


def check_code(project: Path) -> None:
    """Refuse to work on ``project`` with the code of another folder, as after copying a folder with its ``.venv``.

    Raises:
        FolderError: As `begin`.
    """
    own = project / CODE
    # Installed without its project, as in a container image, the code belongs to no folder.
    checkout = (RUNS / "pyproject.toml").is_file()
    if checkout and own.is_file() and not own.samefile(RUNS / CODE):
        raise FolderError(
            f"expected the code of {project.resolve()}, got that of {RUNS}: .venv belongs to that folder, "
            "as after copying or renaming a project; run `make setup`"
        )
