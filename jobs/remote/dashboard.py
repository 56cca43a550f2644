"""The jobs API of a cluster: Ray's client, with every trouble turned into one message."""

import logging
import os
import re
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import requests
from ray.exceptions import AuthenticationError
from ray.job_submission import JobDetails, JobSubmissionClient

from jobs import place
from jobs.errors import JobError

CONNECT_S, ANSWER_S = 10.0, 120.0
"""Longest waits for a connection and for an answer; an upload's answer comes when it is stored."""
STARTING_S = 60.0
"""Longest wait for a cluster that answers but has no host yet that takes jobs."""
OWN_ADDRESSES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""Variables that Ray's client would follow instead of the address it is given."""


class UnreachableError(JobError):
    """A cluster that does not answer now."""


class UnknownJobError(JobError):
    """A job that the cluster does not know, or no longer."""


class TakenError(JobError):
    """An id that another job has."""


class StartingError(JobError):
    """A cluster that takes no jobs yet."""


class Client(JobSubmissionClient):  # type: ignore[misc]
    """Ray's client, which alone would wait for an answer for ever."""

    def _do_request(self, method: str, endpoint: str, **options: Any) -> requests.Response:
        waits = {"timeout": (CONNECT_S, ANSWER_S)}
        answer: requests.Response = super()._do_request(method, endpoint, **(waits | options))
        return answer


@dataclass(frozen=True)
class Dashboard:
    """A cluster's jobs API."""

    client: Any
    """Ray's client, or what answers like it."""
    address: str
    """Where it is, without a password."""

    @classmethod
    def connect(cls, given: str | None) -> "Dashboard":
        """Open the jobs API at an address. Raises JobError when none answers there."""
        address = address_of(given)
        shown = place.without_secret(address)
        logging.getLogger("ray").setLevel(logging.WARNING)  # it tells of every upload
        for name in ("sdk", "modules.dashboard_sdk", "modules.job.sdk"):
            logging.getLogger(f"ray.dashboard.{name}").setLevel(logging.WARNING)
        saved = {name: os.environ.pop(name) for name in OWN_ADDRESSES if name in os.environ}
        try:
            with answered(shown):
                return cls(Client(address, headers=authorization()), shown)
        finally:
            os.environ |= saved

    def jobs(self) -> list[JobDetails]:
        """Return what was submitted to the cluster, oldest first."""
        with answered(self.address):
            found = [job for job in self.client.list_jobs() if job.submission_id]
        return sorted(found, key=lambda job: job.start_time or 0)

    def info(self, job_id: str) -> JobDetails:
        """Return what is known of a job. Raises UnknownJobError."""
        with answered(self.address):
            return self.client.get_job_info(job_id)

    def submit(self, **job: Any) -> None:
        """Hand in a job, when the cluster takes it. Raises TakenError for the id of another."""
        deadline = time.monotonic() + STARTING_S
        while True:
            try:
                with answered(self.address):
                    self.client.submit_job(**job)
            except StartingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
            else:
                return

    def stop(self, job_id: str) -> None:
        """Ask a job to end."""
        with answered(self.address):
            self.client.stop_job(job_id)

    async def log(self, job_id: str) -> AsyncGenerator[str]:
        """Yield the log of a job from its beginning until the job is over."""
        with answered(self.address):
            async for text in self.client.tail_job_logs(job_id):
                yield text


def address_of(given: str | None) -> str:
    """Return the address of the dashboard with its scheme."""
    address = given or os.environ.get("RAY_API_SERVER_ADDRESS")
    if not address:
        raise JobError(
            "no cluster is named; use --address http://head:8265, or set RAY_API_SERVER_ADDRESS"
        )
    address = address if "://" in address else f"http://{address}"
    if not address.startswith(("http://", "https://")):
        raise JobError(
            f"address {place.without_secret(address)} is none of a dashboard; "
            "use http://head:8265, where Ray shows its pages"
        )
    return address.rstrip("/")


def authorization() -> dict[str, str]:
    """Return the header with the cluster's token, from where Ray itself looks for it.

    Ray's client would send it only with RAY_AUTH_MODE=token, and so not say why it is refused.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return {}
    token = os.environ.get("RAY_AUTH_TOKEN", "")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if not token and path.is_file():
        token = path.read_text()
    return {"Authorization": f"Bearer {token.strip()}"} if token.strip() else {}


@contextmanager
def answered(address: str) -> Iterator[None]:
    """Turn what Ray's client raises into one message."""
    try:
        yield
    except AuthenticationError as error:
        missing = "required" in str(error).splitlines()[0]
        found = "wants a token and got none" if missing else "refuses this token"
        raise JobError(
            f"the cluster at {address} {found}; set RAY_AUTH_TOKEN to the one it was started with"
        ) from error
    except (ConnectionError, TimeoutError, requests.RequestException, aiohttp.ClientError) as error:
        raise unanswered(address, error) from error
    except RuntimeError as error:
        raise refused(address, str(error)) from error
    except (KeyError, ValueError) as error:
        raise JobError(
            f"what answers at {address} is no Ray dashboard; it is at port 8265 of the head"
        ) from error


def unanswered(address: str, error: Exception) -> JobError:
    """Return what to say of a connection that did not come about, or broke."""
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return JobError(
            f"what answers at {address} is no Ray dashboard; it is at port 8265 of the head"
        )
    if isinstance(error, requests.exceptions.SSLError):
        return JobError(f"the certificate of {address} is not trusted: {error}")
    return UnreachableError(
        f"no Ray dashboard answers at {address}; check the address, that the cluster runs and "
        "that it has ray[default], or open a way to it: kubectl port-forward svc/HEAD 8265"
    )


def refused(address: str, text: str) -> JobError:
    """Return what to say of an answer that is a refusal."""
    found = re.search(r"status code (\d+): (.*)", text, re.DOTALL)
    code, body = (int(found[1]), found[2].strip()) if found else (0, text.strip())
    last = (body.splitlines() or ["no reason given"])[-1]
    if "already exists" in body:
        return TakenError(last)
    if "No available agent" in body:
        return StartingError(f"the cluster at {address} has no host that takes jobs: {last}")
    if code == 404 and "does not exist" in body:
        return UnknownJobError(last)
    if code in (502, 503, 504) or "closed unexpectedly" in body or "WebSocket error" in body:
        return UnreachableError(f"the cluster at {address} does not answer: {last}")
    return JobError(f"the cluster at {address} says: {last}")
