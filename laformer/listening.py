"""When workers ask whether something is wanted of them: all at the same step, every few seconds."""

import time
from dataclasses import dataclass

EVERY_S = 2.0
"""Seconds from one question to the next: each costs a few ms, and hosts give notice of seconds."""
MOST = 1000
"""Steps from one question to the next at most."""
SAVE, STOP = "save", "stop"
"""What may be wanted: to save, and to save and end."""


@dataclass
class Listening:
    """Turns seconds into steps, for workers must ask together. The first one counts for all."""

    next_step: int
    """Steps done when the next question is due."""
    asked_at_s: float
    asked_step: int

    @classmethod
    def after_start(cls, step: int) -> "Listening":
        """Ask after the first step of a start: it may have taken long."""
        return cls(step + 1, time.monotonic(), step)

    def due(self, step: int) -> bool:
        """Return whether to ask after so many steps."""
        return step >= self.next_step

    def plan(self, step: int) -> int:
        """Return when to ask again, at the pace since the last question."""
        now_s = time.monotonic()
        pace_s = (now_s - self.asked_at_s) / max(1, step - self.asked_step)
        self.asked_at_s, self.asked_step = now_s, step
        return step + max(1, int(EVERY_S / max(pace_s, EVERY_S / MOST)))
