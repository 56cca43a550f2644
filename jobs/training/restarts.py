"""Which failures of workers are worth another start, and what the user hears of them.

Ray Train starts lost workers again whatever ended them. Here an error that another start cannot
mend ends the run at once, and so does a loss that repeats without any progress between.
"""

import time

from ray.exceptions import RayActorError
from ray.train import Checkpoint, UserCallback

from jobs import failures
from jobs.errors import JobError
from jobs.training.notices import Notices
from laformer.errors import LeavingError, StreamError
from pipelines.errors import OutageError

MAX_IN_A_ROW = 3
"""Losses without progress between them before the job gives up."""
OUTAGE_S = 600.0
"""Longest outage of storage, at the start of workers, that is waited for."""
PASSING = (LeavingError, OutageError, StreamError)
"""Known errors that another start may mend."""
MISTAKES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    NotImplementedError,
    SyntaxError,
    TypeError,
    ValueError,
)
"""Errors of the code or its values: they would come again."""


class Restarts(UserCallback):  # type: ignore[misc]
    """Decides on each failure. Lives in Ray Train's controller, on the host of the driver."""

    def __init__(self, notices: Notices) -> None:
        self.notices = notices
        self.step = self.failed_at_step = 0
        self.in_a_row = 0
        self.outage_began_s: float | None = None

    def after_report(
        self,
        run_context: object,  # noqa: ARG002 - Ray passes it by name
        metrics: list[dict[str, float]],
        checkpoint: Checkpoint | None,  # noqa: ARG002
    ) -> None:
        """Note how far the run is."""
        self.step = max(self.step, int(metrics[0].get("step", 0)))
        self.outage_began_s = None

    def after_exception(
        self,
        run_context: object,  # noqa: ARG002
        worker_exceptions: dict[int, Exception],
    ) -> None:
        """Return to let Ray start the workers again; raise to end the run with that error."""
        rank, error = telling(worker_exceptions)
        if lasting := permanent(error):
            raise lasting
        if isinstance(failures.cause(error), LeavingError):
            self.notices.hold("the workers have left that host")
            return
        self.notices.hold(f"worker {rank} was lost ({reason(error)})")
        death = died(error)
        if (death is not None and death.preempted) or self._waits_for_storage(error):
            return
        self.in_a_row = self.in_a_row + 1 if self.step <= self.failed_at_step else 1
        self.failed_at_step = self.step
        if self.in_a_row > MAX_IN_A_ROW:
            raise given_up(rank, error)

    def _waits_for_storage(self, error: Exception) -> bool:
        if not isinstance(failures.cause(error), OutageError):
            return False
        now_s = time.monotonic()
        self.outage_began_s = self.outage_began_s or now_s
        return now_s - self.outage_began_s < OUTAGE_S


def telling(errors: dict[int, Exception]) -> tuple[int, Exception]:
    """Return the error that explains the others, and its rank.

    When one worker dies the others fail in the middle of talking to it; an error that lasts is
    the cause of any others.
    """

    def order(rank: int) -> tuple[bool, bool, bool, int]:
        error, death = errors[rank], died(errors[rank])
        preempted = death is not None and death.preempted
        return (permanent(error) is None, not preempted, death is None, rank)

    first = min(errors, key=order)
    return first, errors[first]


def permanent(error: Exception) -> Exception | None:
    """Return the error that another start of the workers cannot mend, if this is one."""
    known = failures.cause(error)
    if known is not None:
        return None if isinstance(known, PASSING) else known
    return error if isinstance(error, MISTAKES) else None


def given_up(rank: int, error: Exception) -> Exception:
    """Return what ends a run whose workers are lost again and again."""
    if died(error) is None:
        return error
    return JobError(
        f"worker {rank} was lost {MAX_IN_A_ROW + 1} times without progress, last because "
        f"{reason(error)}; see its log below /tmp/ray/session_latest/logs, "
        "then run the same command again to continue"
    )


def died(error: Exception) -> RayActorError | None:
    """Return how a worker's process ended, if that is what the error is about."""
    # Ray asks each worker how it is, and wraps what it hears from one that is gone.
    inner = getattr(error, "health_check_failure", error)
    return inner if isinstance(inner, RayActorError) else None


def reason(error: Exception) -> str:
    """Say in a few words what became of a worker."""
    death = died(error)
    if death is not None:
        if death.preempted:
            return "its host was taken away"
        text = str(death).lower()
        if "low on memory" in text:
            return "its host had no memory left"
        return "its host is gone" if "its node has died" in text else "its process ended"
    known = failures.cause(error) or error
    first = (str(known).strip() or "no message").splitlines()[0]
    return f"{type(known).__name__}: {first}"
