"""Which commit of this code runs."""

import os
import subprocess
from pathlib import Path


def git_revision(here: Path = Path(__file__).parent) -> str:
    """Return the commit of the code that runs, or of a folder; "unknown" outside a checkout."""
    if submitted := os.environ.get("LAFORMER_REVISION"):  # the package has no history
        return submitted
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        found = subprocess.run(  # noqa: S603 - nothing in it comes from outside
            command, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
