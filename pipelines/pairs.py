"""Where the lq of a gt comes from."""

from dataclasses import dataclass

from pipelines.pixels import Degrade


@dataclass(frozen=True)
class Synthesised:
    """lq is computed from gt on the fly."""

    degrade: Degrade
