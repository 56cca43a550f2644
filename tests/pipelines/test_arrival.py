"""What an S3 server sends arrives as it is, or not at all: a proxy before it does the harm."""

import os
import secrets
from urllib.parse import urlsplit

import pytest

from pipelines import arrival, storage
from pipelines.errors import OutageError, StorageError
from tests.cluster.proxy import Plan, Proxy

pytestmark = pytest.mark.s3
DATA = bytes(range(256)) * 40


@pytest.fixture
def proxy(s3, monkeypatch):
    target = urlsplit(os.environ["AWS_ENDPOINT_URL"])
    made = Proxy(("127.0.0.1", 0), (target.hostname, target.port))
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{made.server.server_port}")
    yield made
    made.close()


@pytest.fixture
def uri(s3, proxy):
    found = f"{s3}/{secrets.token_hex(4)}.png"
    storage.put(found, DATA)
    return found


@pytest.mark.parametrize("kind", ["flip", "short", "503"])
def test_harm_on_the_way_is_noticed_and_read_again(uri, proxy, kind):
    proxy.harm(Plan(kind, 0.5, ("GET",), seed=1))
    assert [storage.get(uri) == DATA for _ in range(6)] == [True] * 6
    assert proxy.harmed[kind]


def test_bytes_that_are_damaged_each_time_are_not_returned(uri, proxy, monkeypatch):
    monkeypatch.setattr(storage, "GIVE_UP_S", 0.0)
    proxy.harm(Plan("flip", 1.0, ("GET",)))
    with pytest.raises(OutageError, match="damaged on the way"):
        storage.get(uri)


def test_digests_of_something_else_than_the_bytes_are_left_alone(uri, proxy, monkeypatch):
    monkeypatch.setattr(arrival, "_trusted", set())
    monkeypatch.setattr(arrival, "digest_of", lambda _: "0" * 32)
    assert storage.get(uri) == DATA
    asked = sum(proxy.requests.values())
    assert storage.get(uri) == DATA
    assert sum(proxy.requests.values()) - asked < asked  # not twice any more


@pytest.mark.parametrize(
    ("kind", "message"), [("expired", "have expired; renew"), ("full", "is full or the quota")]
)
def test_what_lasts_is_told_at_once(uri, proxy, kind, message):
    proxy.harm(Plan(kind, 1.0, ("PUT",)))
    with pytest.raises(StorageError, match=message):
        storage.put(uri, DATA)
    assert proxy.harmed[kind] == 1
