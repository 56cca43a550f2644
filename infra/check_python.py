"""Say in one line that Python is too old, before pip says it in fifty."""

import sys

if sys.version_info < (3, 11):
    sys.exit(
        f"error: Python {sys.version.split()[0]} is older than 3.11; "
        "name a newer one: make demo PYTHON=python3.11"
    )
