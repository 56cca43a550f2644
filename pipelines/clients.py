"""The clients of object storage: made from the environment alone, once per process and place."""

import datetime as dt
import functools
import os
from typing import Any

from pipelines.errors import StorageError

CONNECT_TIMEOUT_S = 2.0
"""Time to open a connection."""

STALL_TIMEOUT_S = 5.0
"""Time without one byte before a request is given up."""

_ENVIRONMENT = (
    "AWS_ACCESS_KEY_ID",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_PROFILE",
    "AWS_REGION",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "STORAGE_EMULATOR_HOST",
)


def s3_endpoint() -> str | None:
    """Return the endpoint the environment names; None is Amazon's own."""
    url = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or None
    if url and "://" not in url:
        raise StorageError(f"AWS_ENDPOINT_URL {url} has no scheme; write http://{url}")
    return url


def _settle_s3() -> tuple[str | None, str | None]:
    """Return endpoint and region, the environment completed for a store that is not Amazon's."""
    url = s3_endpoint()
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if url is None or "amazonaws.com" in url:
        return url, region
    # Ceph refuses the checksum trailers that Amazon's clients send since 2025 (HTTP 411).
    os.environ.setdefault("AWS_REQUEST_CHECKSUM_CALCULATION", "when_required")
    os.environ.setdefault("AWS_RESPONSE_CHECKSUM_VALIDATION", "when_required")
    os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    return url, region or "us-east-1"


def _place_key() -> tuple[object, ...]:
    """Return what a client depends on; after a fork the threads of the parent's are gone."""
    return (os.getpid(), *map(os.environ.get, _ENVIRONMENT))


def arrow(scheme: str) -> Any:
    """Return pyarrow's filesystem for "s3" or "gs"."""
    return _cached_arrow(scheme, _place_key())


@functools.lru_cache(maxsize=8)
def _cached_arrow(scheme: str, _key: tuple[object, ...]) -> Any:
    from pyarrow import fs  # noqa: PLC0415

    if scheme == "s3":
        endpoint, region = _settle_s3()
        return fs.S3FileSystem(
            endpoint_override=endpoint,
            region=region,
            connect_timeout=CONNECT_TIMEOUT_S,
            request_timeout=STALL_TIMEOUT_S,
            # The standard strategies share a budget of retries, which a bad minute uses up.
            retry_strategy=fs.AwsDefaultS3RetryStrategy(max_attempts=2),
            # A small object is then one PUT instead of a three-request upload.
            allow_delayed_open=True,
        )
    emulator = os.environ.get("STORAGE_EMULATOR_HOST")
    http, _, host = (emulator or "").rpartition("://")
    return fs.GcsFileSystem(
        anonymous=bool(emulator),
        scheme=http or ("http" if emulator else None),
        endpoint_override=host or None,
        retry_time_limit=dt.timedelta(seconds=STALL_TIMEOUT_S),
    )


@functools.lru_cache(maxsize=8)
def _cached_s3fs(_key: tuple[object, ...]) -> Any:
    import s3fs  # noqa: PLC0415

    endpoint, region = _settle_s3()
    client = s3fs.S3FileSystem(
        skip_instance_cache=True,
        use_listings_cache=False,
        endpoint_url=endpoint,
        client_kwargs={"region_name": region},
        config_kwargs={
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": STALL_TIMEOUT_S,
            "retries": {"mode": "legacy", "max_attempts": 2},
        },
    )
    client.retries = 1
    return client


def call_s3(method: str, **arguments: Any) -> dict[str, Any]:
    """Call the S3 client below s3fs: its own find and rm take '?versionId=' out of a key."""
    from botocore.exceptions import BotoCoreError  # noqa: PLC0415

    try:
        answer: dict[str, Any] = _cached_s3fs(_place_key()).call_s3(method, **arguments)
    except BotoCoreError as error:
        raise OSError(f"AWS Error {type(error).__name__} during {method}: {error}") from error
    return answer
