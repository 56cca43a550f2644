"""Whether what arrived from an S3 server is what it holds.

Amazon's own checksums are checked by the clients. Other servers have none: what they say of an
object that was uploaded in one piece is the MD5 of its bytes, as its ETag.
"""

import hashlib
import re
from collections.abc import Mapping

from pipelines import clients

_trusted: set[str] = set()
"""Buckets whose ETags are no MD5 of what is read, for they are encrypted: nothing to check with."""


def digest_of(metadata: Mapping[str, bytes]) -> str | None:
    """Return the MD5 of an object from its metadata, or None where none is to be checked."""
    endpoint = clients.s3_endpoint()
    if endpoint is None or "amazonaws.com" in endpoint:
        return None
    etag = metadata.get("ETag", b"").decode().strip('"')
    return etag if re.fullmatch("[0-9a-f]{32}", etag) else None


def is_intact(data: bytes, digest: str, bucket: str) -> bool:
    """Tell whether the bytes have that digest; of a trusted bucket always."""
    if bucket in _trusted:
        return True
    return hashlib.md5(data, usedforsecurity=False).hexdigest() == digest


def trust(bucket: str) -> None:
    """Stop to compare in a bucket whose digests are of something else than its bytes."""
    _trusted.add(bucket)
