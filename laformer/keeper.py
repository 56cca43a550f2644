"""Storing checkpoints beside training, which does not wait for storage that fails.

While storage works, each checkpoint is stored. While it fails, the newest one is tried again and
again; of the older ones that never made it the best is stored after it, the others are let go, and
the user is told all of that. At most three are in memory: the newest, the one that is being
written, and the best.
"""

import threading
import time

from laformer.checkpoint import Snapshot
from laformer.errors import CheckpointError
from laformer.patience import Record
from laformer.shelf import Shelf, Tell, doomed

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Between two attempts; the pause doubles."""
LONGEST_WAIT_S = 120.0
"""Longest that training waits for storage that is slow or hangs."""
PATIENCE_S = 600.0
"""Longest wait at the end of a run for storage that fails."""


class Keeper:
    """Stores snapshots from a thread of its own, in their order, and removes old ones."""

    def __init__(self, shelf: Shelf, keep: int, tell: Tell) -> None:
        self.shelf, self.keep, self.tell = shelf, keep, tell
        self.waiting: Snapshot | None = None
        self.storing: Snapshot | None = None
        self.best: Snapshot | None = None
        self.trouble: Exception | None = None
        self.closed = False
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self.thread.start()

    def put(self, snapshot: Snapshot) -> None:
        """Hand over a snapshot. Waits a little for the one before the last, if storage works."""
        with self.changed:
            self.changed.wait_for(
                lambda: self.waiting is None or self.trouble is not None, LONGEST_WAIT_S
            )
            if self.waiting is not None:
                self._pass_over(self.waiting, snapshot)
            self.waiting = snapshot
            self.changed.notify_all()

    def settled(self, patience_s: float) -> bool:
        """Wait until all is stored, for so long at most; return whether it is."""
        with self.changed:
            return self.changed.wait_for(lambda: not self._unstored(), patience_s)

    def close(self, patience_s: float = PATIENCE_S) -> None:
        """Wait until all is stored. Raises CheckpointError when it cannot be within this time."""
        with self.changed:
            self.closed = True
            self.changed.notify_all()
            if not self.settled(patience_s):
                step = max(self._unstored())
                raise CheckpointError(
                    f"the checkpoint of step {step} could not be stored within {patience_s:.0f} s "
                    f"({self.trouble or 'storage does not answer'}); "
                    "mend that and run the same command again"
                ) from self.trouble

    def _unstored(self) -> list[int]:
        return [s.step for s in (self.waiting, self.storing, self.best) if s is not None]

    def _run(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting or self.best or self.closed)
                if self.waiting is not None:
                    self.storing, self.waiting = self.waiting, None
                elif self.best is not None:
                    self.storing, self.best = self.best, None
                else:
                    return
                self.changed.notify_all()
            self._store(self.storing)
            with self.changed:
                self.storing = None
                self.changed.notify_all()

    def _store(self, snapshot: Snapshot) -> None:
        """Store until it is stored, or until a newer one waits."""
        pause_s = FIRST_PAUSE_S
        while not self._stored(snapshot):
            with self.changed:
                self.changed.notify_all()
                if self.changed.wait_for(lambda: self.waiting is not None, pause_s):
                    assert self.waiting is not None
                    self._pass_over(snapshot, self.waiting)
                    return
            pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
        self._prune()

    def _stored(self, snapshot: Snapshot) -> bool:
        started = time.perf_counter()
        try:
            self.shelf.store(snapshot.step, snapshot.files())
        except Exception as error:  # noqa: BLE001 - whatever storage raises, training goes on
            if self.trouble is None:
                self.tell(
                    f"warning: the checkpoint of step {snapshot.step} "
                    f"({snapshot.num_bytes >> 10} KiB) is not stored yet: {error}; "
                    "training goes on and it is tried again"
                )
            self.trouble = error
            return False
        if self.trouble is not None:
            seconds = time.perf_counter() - started
            self.tell(f"the checkpoint of step {snapshot.step} is stored now, in {seconds:.1f} s")
        self.trouble = None
        return True

    def _pass_over(self, older: Snapshot, newer: Snapshot) -> None:
        """Keep for later what is the best of the run by now, and let go of the rest."""
        best_step, held, self.best = Record.of(newer.facts).step, self.best, None
        for snapshot in (held, older):
            if snapshot is not None and snapshot.step == best_step:
                self.best = snapshot
            elif snapshot is not None:
                self._let_go(snapshot, newer)

    def _let_go(self, older: Snapshot, newer: Snapshot) -> None:
        self.tell(
            f"warning: the checkpoint of step {older.step} is let go for that of step {newer.step}"
        )

    def _prune(self) -> None:
        try:
            for step in doomed(self.shelf.scores(), self.shelf.steps(), self.keep):
                self.shelf.drop(step)
        except Exception as error:  # noqa: BLE001 - more is kept than need be, until next time
            self.tell(f"warning: old checkpoints were not removed: {error}")
