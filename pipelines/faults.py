"""What can go wrong with storage: codes of the clients, what they mean, whether to try again."""

import errno
import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """A family of error codes: rule and next act for the reader, and whether to try again."""

    codes: str
    meaning: str
    retry: bool = False
    about_name: bool = False
    """Whether another name in the same place would have done."""


# Codes are those of pyarrow, botocore, Google's client and errno in lower case, no underscores.
FAULTS = (
    Fault(
        "networkconnection endpointconnectionerror connecttimeouterror readtimeouterror "
        "connectionclosederror proxyconnectionerror sslerror httpclienterror unavailable "
        "deadlineexceeded timeouterror fstimeouterror connectionerror connectionreseterror "
        "connectionrefusederror connectionabortederror brokenpipeerror incompletereaderror "
        "etimedout econnreset econnrefused econnaborted ehostunreach enetunreach epipe estale",
        "{endpoint} cannot be reached; check {endpoint_name}, the network and that it is up",
        retry=True,
    ),
    Fault(
        "slowdown serviceunavailable throttling throttlingexception toomanyrequests requesttimeout "
        "internalerror internalfailure internal resourceexhausted responseparsererror "
        "429 500 502 503 504",
        "{endpoint} is overloaded or failing and did not recover; use fewer workers or try later",
        retry=True,
    ),
    Fault(
        "shortreaderror",
        "the bytes that arrived are not as many as announced; check that nothing rewrites it",
        retry=True,
    ),
    Fault(
        "damagederror baddigest invaliddigest "
        "xamzcontentsha256mismatch xamzcontentchecksummismatch",
        "bytes are damaged on the way to or from {endpoint}, again and again; check the network "
        "and the memory of this host",
        retry=True,
    ),
    Fault(
        "accessdenied invalidaccesskeyid signaturedoesnotmatch invalidtoken "
        "allaccessdisabled forbidden nocredentialserror "
        "partialcredentialserror credentialretrievalerror permissiondenied unauthenticated 401 403",
        "{endpoint} refuses these credentials; check {credentials} and that they allow this",
    ),
    Fault(
        "expiredtoken expiredtokenexception tokenrefreshrequired",
        "the credentials for {endpoint} have expired; renew {credentials}, then run the same "
        "command again",
    ),
    Fault(
        "400",  # of a request for metadata, whose answer has no room for a reason
        "{endpoint} refuses the request and does not say why; most often the credentials have "
        "expired: renew {credentials}",
    ),
    Fault(
        "requesttimetooskewed",
        "{endpoint} finds the clock of this host wrong; set it, by NTP for example",
    ),
    Fault(
        "nosuchbucket",
        "bucket {bucket} does not exist at {endpoint}; create it or correct the name",
    ),
    Fault(
        "invalidbucketname paramvalidationerror",
        "{bucket} cannot name a bucket; use 3 to 63 lower-case letters, digits and hyphens",
    ),
    Fault(
        "301 permanentredirect authorizationheadermalformed illegallocationconstraintexception",
        "bucket {bucket} is in another region; set AWS_DEFAULT_REGION to it",
    ),
    Fault(
        "411 missingcontentlength",
        "{endpoint} cannot take checksums in trailers; "
        "set AWS_REQUEST_CHECKSUM_CALCULATION=when_required",
    ),
    Fault("enoent nosuchkey resourcenotfound notfound 404", "does not exist; check the name"),
    Fault("eisdir", "is a folder, not a file; name a file in it"),
    Fault(
        "enotdir eexist",
        "a part of this path is a file, not a folder; choose another path",
        about_name=True,
    ),
    Fault("eacces eperm", "permission denied; check the owner and mode of the file and folder"),
    Fault("erofs", "the disk is read-only; choose another folder"),
    Fault(
        "enametoolong keytoolongerror",
        "the name is longer than {endpoint} allows; shorten it",
        about_name=True,
    ),
    Fault(
        "enospc edquot 507 insufficientstorage xminiostoragefull quotaexceeded",
        "{endpoint} is full or the quota used up; free space or choose another",
    ),
)


def find(code: str) -> Fault:
    """Return the family of a code; an unknown code is a family of its own."""
    unknown = Fault(code, "failed; the message of the client follows")
    return next((fault for fault in FAULTS if code in fault.codes.split()), unknown)


def is_known(code: str) -> bool:
    """Tell whether a code, as a server writes it, is in one of the families."""
    return any(code.lower() in fault.codes.split() for fault in FAULTS)


def code_of(error: OSError) -> str:
    """Return what the clients agree on: a code in lower case without underscores."""
    text = str(error)
    response = getattr(error.__cause__, "response", None)
    if isinstance(response, dict):
        code = str(response["Error"]["Code"])
    elif (match := re.search(r"ExceptionName: (\w+)", text)) and is_known(match[1]):
        code = match[1]  # the server's own word, where pyarrow has none for it
    elif match := re.search(r"AWS Error UNKNOWN \(HTTP status (\d+)\)", text):
        code = match[1]
    elif match := re.search(r"AWS Error (\w+)|google::cloud::Status\((\w+)", text):
        code = match[1] or match[2]
    else:
        code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    return code.replace("_", "").lower()
