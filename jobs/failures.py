"""From whatever Ray wraps around it back to the error that a user can act on."""

from jobs.errors import JobError
from laformer.errors import ModelError
from pipelines.errors import DataError

KNOWN = (JobError, ModelError, DataError)


def cause(error: BaseException | None) -> Exception | None:
    """Return the known error inside an error: itself, what it was raised from, or a worker's.

    Ray keeps the error of a remote call in `cause` of an error of both types, those of a worker
    group by rank in `worker_failures`, and what ended a run in `controller_failure`.
    """
    seen: set[int] = set()
    queue = [error]
    while queue:
        current = queue.pop(0)
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, KNOWN) and not hasattr(current, "cause"):
            return current
        queue += [getattr(current, "cause", None), getattr(current, "controller_failure", None)]
        queue += getattr(current, "worker_failures", {}).values()
        queue += [current.__cause__, current.__context__]
    return None
