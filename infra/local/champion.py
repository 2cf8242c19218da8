"""Says before servers start that this version of the project would refuse the champion: afterwards clients notice."""

import subprocess

from infra.local import places

SECONDS = 120  # most that the answer may take; a registry that is far away must not keep the servers from starting
REFUSED = 1  # exit code of `buckler champion`


def say() -> None:
    """Print why the service will not take the champion; nothing if it will, or there is none."""
    try:
        done = subprocess.run(
            [places.BIN / "buckler", "champion"],
            cwd=places.ROOT,
            env=places.environment(),
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )
    except subprocess.TimeoutExpired:
        print(f"  `buckler champion` had no answer within {SECONDS} s: whether the service takes it is not known")
        return
    if done.returncode == REFUSED:
        print("  the champion is not in order; the service keeps a release that it verified before, or answers 503:")
        print("".join(f"    {line}\n" for line in done.stderr.splitlines()), end="", flush=True)
