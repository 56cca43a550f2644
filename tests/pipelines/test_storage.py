import errno
import json
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines import pages, storage
from pipelines.errors import StorageError

ODD_KEYS = ["a b.png", "#1.png", "100%.png", "a%20b.png", "a+b.png", "sub/é漢.png", "q?v=1&w.png"]


@pytest.fixture
def endpoint(s3):
    assert storage.is_remote(s3)
    return os.environ["AWS_ENDPOINT_URL"]


@pytest.fixture
def client(endpoint):
    import boto3

    return boto3.client("s3", endpoint_url=endpoint)


@pytest.fixture
def bucket(client):
    name = f"bucket-{uuid.uuid4().hex}"
    client.create_bucket(Bucket=name)
    return name


@pytest.fixture
def no_pause(monkeypatch):
    monkeypatch.setattr(storage, "FIRST_DELAY_S", 0.0)


def keys(root, suffixes=(".png",)):
    return [entry.key for entry in storage.list_entries(root, suffixes)]


def test_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert storage.absolute("photos/") == f"{tmp_path}/photos"
    assert storage.absolute("/photos") == "/photos"
    assert storage.absolute("file:///my%20photos/") == "/my photos"
    assert storage.absolute("s3://bucket/photos/") == "s3://bucket/photos"
    assert storage.absolute("gs://bucket/") == "gs://bucket"


def test_is_remote():
    assert storage.is_remote("s3://bucket")
    assert storage.is_remote("gs://bucket/x")
    assert not storage.is_remote("s3")
    assert not storage.is_remote("file:///x")


@pytest.mark.parametrize(
    "uri", ["", "a\0b", "http://x/y", "file://host/x", "s3://", "s3:///key", "s3://b/a/../c"]
)
def test_uri_that_names_no_place(uri):
    with pytest.raises(StorageError):
        storage.absolute(uri)


def test_join():
    assert storage.join("photos", "a/b.png") == "photos/a/b.png"
    assert storage.join("/", "a.png") == "/a.png"
    assert storage.join("s3://bucket/", "a", "b%20#.png") == "s3://bucket/a/b%20#.png"
    assert storage.join("file:///my%20photos", "x%20y.png") == "/my photos/x%20y.png"


@pytest.mark.parametrize("key", ["/a", "../a", "a/../../b", "a/..", "", ".", "a//b"])
@pytest.mark.parametrize("root", ["photos", "s3://bucket"])
def test_join_stays_below_root(root, key):
    with pytest.raises(StorageError, match="not a plain relative path"):
        storage.join(root, key)


def test_list_local(tmp_path):
    for key in [*ODD_KEYS, "B.PNG", ".hidden.png", ".folder/x.png", "sub/.x/y.png", "notes.txt"]:
        storage.put(storage.join(str(tmp_path), key), key.encode())
    assert keys(str(tmp_path)) == sorted([*ODD_KEYS, "B.PNG"])
    assert keys(f"{tmp_path}/", (".txt", ".PNG")) == sorted([*ODD_KEYS, "B.PNG", "notes.txt"])
    assert keys((tmp_path / "sub").as_uri()) == ["é漢.png"]
    for entry in storage.list_entries(str(tmp_path), (".png",)):
        data = storage.get(storage.join(str(tmp_path), entry.key))
        assert (data, len(data)) == (entry.key.encode(), entry.num_bytes)


def test_list_one_file_and_nothing(tmp_path):
    storage.put(f"{tmp_path}/x.jpg", b"123")
    [entry] = storage.list_entries(f"{tmp_path}/x.jpg", (".png",))
    assert (entry.key, entry.num_bytes) == ("x.jpg", 3)
    assert keys(str(tmp_path)) == []
    with pytest.raises(StorageError, match=f"folder {tmp_path}/none does not exist; correct"):
        keys(f"{tmp_path}/none")


def test_list_follows_links_but_no_loop(tmp_path):
    storage.put(f"{tmp_path}/disk/x.png", b"1")
    root = tmp_path / "root"
    root.mkdir()
    (root / "linked").symlink_to(tmp_path / "disk")
    (root / "loop").symlink_to(root)
    (root / "gone.png").symlink_to(tmp_path / "nothing")
    assert keys(str(root)) == ["gone.png", "linked/x.png"]


def test_etag_changes_with_content(tmp_path):
    path = tmp_path / "x.png"
    etags = set()
    for moment_ns, data in [(10**18, b"1"), (10**18, b"22"), (10**18 + 1, b"22")]:
        path.write_bytes(data)
        os.utime(path, ns=(moment_ns, moment_ns))
        etags |= {entry.etag for entry in storage.list_entries(str(tmp_path), (".png",))}
    assert len(etags) == 3


def test_put_get_exists_delete_local(tmp_path):
    uri = f"{tmp_path}/new/folder/{'x' * 251}.png"
    assert not storage.exists(uri)
    for data in (b"old", b"", b"new"):
        storage.put(uri, data)
        assert storage.get(uri) == data
    assert storage.exists(uri)
    assert storage.exists(str(tmp_path))
    assert [path.name for path in Path(uri).parent.iterdir()] == [Path(uri).name]
    storage.delete(uri)
    storage.delete(uri)
    assert not storage.exists(uri)


@pytest.mark.parametrize("step", ["replace", "fsync"])
def test_put_is_whole_or_not_at_all(tmp_path, monkeypatch, step):
    uri = f"{tmp_path}/x.png"
    storage.put(uri, b"old")

    def crash(*_args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, step, crash)
    with pytest.raises(StorageError, match="the disk is full"):
        storage.put(uri, b"new")
    assert storage.get(uri) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["x.png"]


def test_put_leaves_folders_and_devices_alone(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", ""):
        with pytest.raises(StorageError, match="is a folder or a device, not a file"):
            storage.put(f"{tmp_path}/{name}", b"1")
    assert (tmp_path / "pipe").is_fifo()


def test_local_errors_are_told_apart(tmp_path, monkeypatch):
    (tmp_path / "x.png").write_bytes(b"1")
    with pytest.raises(StorageError, match=r"none\.png: does not exist; check the name"):
        storage.get(f"{tmp_path}/none.png")
    with pytest.raises(StorageError, match="is a folder, not a file"):
        storage.get(str(tmp_path))
    with pytest.raises(StorageError, match="a part of this path is a file"):
        storage.put(f"{tmp_path}/x.png/y.png", b"1")
    with pytest.raises(StorageError, match="the name is longer than the disk allows"):
        storage.put(f"{tmp_path}/{'x' * 300}", b"1")
    fail_times(monkeypatch, 1, PermissionError(errno.EACCES, "Permission denied"))
    with pytest.raises(StorageError, match=r"x\.png: permission denied; check the owner"):
        storage.get(f"{tmp_path}/x.png")


def fail_times(monkeypatch, num_failures, error):
    """Make the first reads fail; return the list of reads."""
    read, calls = storage._read, []

    def flaky(uri):
        calls.append(uri)
        if len(calls) <= num_failures:
            raise error
        return read(uri)

    monkeypatch.setattr(storage, "_read", flaky)
    return calls


TRANSIENT = [
    OSError("AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate."),
    OSError("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body."),
    OSError("AWS Error NETWORK_CONNECTION during GetObject operation: curlCode: 56"),
    OSError("google::cloud::Status(UNAVAILABLE: Retry policy exhausted)"),
    ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"),
    TimeoutError("timed out"),
    OSError(errno.ESTALE, "Stale file handle"),
    storage._ShortReadError("1 of 2 bytes"),
]
PERMANENT = [
    FileNotFoundError(errno.ENOENT, "No such file"),
    OSError("AWS Error ACCESS_DENIED during HeadObject operation: No response body."),
    OSError("key 'SLOW_DOWN.png': AWS Error NO_SUCH_KEY during GetObject operation"),
    OSError("google::cloud::Status(PERMISSION_DENIED: no)"),
    OSError(errno.EIO, "Input/output error"),
    OSError("something new"),
]


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
@pytest.mark.usefixtures("no_pause")
def test_trouble_on_the_way_is_tried_again(tmp_path, monkeypatch, error):
    storage.put(f"{tmp_path}/x.png", b"1")
    calls = fail_times(monkeypatch, storage.MAX_ATTEMPTS - 1, error)
    assert storage.get(f"{tmp_path}/x.png") == b"1"
    assert len(calls) == storage.MAX_ATTEMPTS


@pytest.mark.parametrize("error", TRANSIENT, ids=str)
@pytest.mark.usefixtures("no_pause")
def test_attempts_are_bounded(tmp_path, monkeypatch, error):
    calls = fail_times(monkeypatch, 99, error)
    with pytest.raises(StorageError, match=r"x\.png: .*; (check|use)"):
        storage.get(f"{tmp_path}/x.png")
    assert len(calls) == storage.MAX_ATTEMPTS


@pytest.mark.parametrize("error", PERMANENT, ids=str)
def test_refusal_is_not_tried_again(tmp_path, monkeypatch, error):
    calls = fail_times(monkeypatch, 99, error)
    with pytest.raises(StorageError, match=r"x\.png: "):
        storage.get(f"{tmp_path}/x.png")
    assert len(calls) == 1


def test_pauses_grow_and_time_is_bounded(tmp_path, monkeypatch):
    now_s, pauses_s = [0.0], []

    def sleep(seconds):
        pauses_s.append(seconds)
        now_s[0] += 1 + seconds

    monkeypatch.setattr(storage.time, "monotonic", lambda: now_s[0])
    monkeypatch.setattr(storage.time, "sleep", sleep)
    calls = fail_times(monkeypatch, 99, TimeoutError())
    with pytest.raises(StorageError):
        storage.get(f"{tmp_path}/x.png")
    bounds_s = [min(storage.MAX_DELAY_S, storage.FIRST_DELAY_S * 2**n) for n in range(9)]
    assert all(b / 2 <= p <= b for p, b in zip(pauses_s, bounds_s, strict=False))
    now_s[0] = 0.0
    del calls[:]
    monkeypatch.setattr(storage.time, "sleep", lambda _: now_s.__setitem__(0, now_s[0] + 11))
    with pytest.raises(StorageError):
        storage.get(f"{tmp_path}/x.png")
    assert len(calls) == 2


@pytest.mark.usefixtures("no_pause")
def test_short_read_is_not_returned(tmp_path, monkeypatch):
    storage.put(f"{tmp_path}/x.png", b"12")
    fake = os.stat_result((0, 0, 0, 0, 0, 0, 3, 0, 0, 0))
    monkeypatch.setattr(storage.os, "fstat", lambda _: fake)
    with pytest.raises(StorageError, match=r"not as many as announced.*2 of 3 bytes"):
        storage.get(f"{tmp_path}/x.png")


def test_get_range_local(tmp_path):
    uri = f"{tmp_path}/x.bin"
    storage.put(uri, b"0123456789")
    for offset, num_bytes in [(0, 10), (0, 0), (3, 4), (9, 1), (10, 0)]:
        expected = b"0123456789"[offset : offset + num_bytes]
        assert storage.get_range(uri, offset, num_bytes) == expected
    with pytest.raises(StorageError, match=r"none\.bin: does not exist; check the name"):
        storage.get_range(f"{tmp_path}/none.bin", 0, 1)
    for offset, num_bytes in [(-1, 2), (0, -1)]:
        with pytest.raises(ValueError, match="are no range"):
            storage.get_range(uri, offset, num_bytes)


def count_short_reads(monkeypatch):
    """Return the list of the short reads of ranges."""
    read, calls = storage._read_range, []

    def counted(*arguments):
        try:
            return read(*arguments)
        except storage._ShortReadError:
            calls.append(arguments)
            raise

    monkeypatch.setattr(storage, "_read_range", counted)
    return calls


@pytest.mark.usefixtures("no_pause")
def test_short_range_is_tried_again_and_not_returned(tmp_path, monkeypatch):
    uri = f"{tmp_path}/x.bin"
    storage.put(uri, b"0123456789")
    calls = count_short_reads(monkeypatch)
    for offset, message in [(8, "2 of 3 bytes from 8"), (20, "0 of 3 bytes from 20")]:
        del calls[:]
        with pytest.raises(StorageError, match=f"not as many as announced.*{message}"):
            storage.get_range(uri, offset, 3)
        assert len(calls) == storage.MAX_ATTEMPTS


@pytest.mark.s3
@pytest.mark.usefixtures("no_pause")
def test_get_range_on_s3(bucket, monkeypatch):
    uri = f"s3://{bucket}/x.bin"
    storage.put(uri, b"0123456789")
    assert storage.get_range(uri, 3, 4) == b"3456"
    assert storage.get_range(uri, 0, 0) == b""
    with pytest.raises(StorageError, match=r"none\.bin: does not exist; check the name"):
        storage.get_range(f"s3://{bucket}/none.bin", 0, 1)
    calls = count_short_reads(monkeypatch)
    for offset in (8, 10, 20):
        del calls[:]
        with pytest.raises(StorageError, match="not as many as announced"):
            storage.get_range(uri, offset, 3)
        assert len(calls) == storage.MAX_ATTEMPTS


def test_import_is_cheap():
    heavy = "{'numpy', 'pyarrow', 's3fs', 'botocore', 'ray', 'torch'}"
    code = f"import sys, pipelines.storage; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.s3
def test_odd_keys_on_s3(client, bucket):
    root = f"s3://{bucket}/a folder"
    for key in ODD_KEYS:
        storage.put(storage.join(root, key), key.encode())
    stored = client.list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"] for item in stored] == sorted(f"a folder/{key}" for key in ODD_KEYS)
    entries = storage.list_entries(root, (".PNG",))
    assert [entry.key for entry in entries] == sorted(ODD_KEYS)
    for entry in entries:
        uri = storage.join(root, entry.key)
        assert storage.get(uri) == entry.key.encode()
        assert storage.exists(uri)
        head = client.head_object(Bucket=bucket, Key=f"a folder/{entry.key}")
        assert (entry.num_bytes, f'"{entry.etag}"') == (head["ContentLength"], head["ETag"])


@pytest.mark.s3
def test_list_on_s3(client, bucket):
    for key in ["p/b.png", "p/a/c.PNG", "p/.x/d.png", "p/n.txt", "p/folder/", "p2/e.png", "p.png"]:
        client.put_object(Bucket=bucket, Key=key, Body=b"123")
    assert keys(f"s3://{bucket}/p") == keys(f"s3://{bucket}/p/") == ["a/c.PNG", "b.png"]
    assert keys(f"s3://{bucket}", (".png",)) == ["p.png", "p/a/c.PNG", "p/b.png", "p2/e.png"]
    assert keys(f"s3://{bucket}/p/n.txt") == ["n.txt"]
    assert keys(f"s3://{bucket}/nothing") == []


VERY_ODD_KEYS = [
    *ODD_KEYS,
    " ",
    "~",
    "a",
    "a/",
    "a//b",
    "a/b",
    "é",
    "\uffee",
    "😀",
    "😀/x",
    "0",
    "00",
    "&",
]


@pytest.mark.s3
@settings(max_examples=5, deadline=None)
@given(
    keys=st.sets(
        st.one_of(st.sampled_from(VERY_ODD_KEYS), st.text("0az~é", min_size=1)), max_size=15
    )
)
def test_listing_at_once_is_listing_in_turn(s3, keys):
    import boto3

    client, name, prefix = boto3.client("s3"), s3.removeprefix("s3://"), f"odd {uuid.uuid4().hex}/"
    for key in [*keys, "", "🙂.txt"]:
        client.put_object(Bucket=name, Key=prefix + key, Body=key.encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages, "PAGE_KEYS", 2)
        bucket = pages.Bucket(
            lambda request: storage.clients.call_s3("list_objects_v2", **request), name, prefix
        )
        in_turn = [entry for page in bucket.in_turn() for entry in page.entries]
        at_once = [entry for page in bucket.at_once() for entry in page.entries]
        listed = storage.list_entries(f"{s3}/{prefix}", ("",))
    assert [entry.key for entry in in_turn] == sorted([*keys, "", "🙂.txt"])
    assert sorted(at_once, key=lambda entry: entry.key) == in_turn
    assert listed == [e for e in in_turn if e.key and not e.key.endswith("/")]


@pytest.mark.s3
def test_a_store_that_starts_where_it_likes_is_listed_in_turn(client, bucket, monkeypatch):
    for i in range(7):
        client.put_object(Bucket=bucket, Key=f"{i}.png", Body=b"1")
    call = storage.clients.call_s3
    asked = []

    def forget_the_start(method, **request):
        asked.append(request)
        return call(method, **{k: v for k, v in request.items() if k != "StartAfter"})

    monkeypatch.setattr(pages, "PAGE_KEYS", 2)
    monkeypatch.setattr(storage.clients, "call_s3", forget_the_start)
    assert keys(f"s3://{bucket}") == [f"{i}.png" for i in range(7)]
    assert any("StartAfter" in request for request in asked)


def test_a_name_that_is_no_utf8_is_explained(tmp_path):
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png")).write_bytes(b"1")
    with pytest.raises(StorageError, match=r"a name that is no UTF-8: .*rename that file"):
        keys(str(tmp_path))


@pytest.mark.s3
def test_delete_on_s3_takes_one_object(client, bucket):
    for key in ["a/x.png", "a/x.png?versionId=1"]:
        client.put_object(Bucket=bucket, Key=key, Body=b"1")
    storage.delete(f"s3://{bucket}/a/x.png?versionId=1")
    assert storage.exists(f"s3://{bucket}/a/x.png")
    storage.delete(f"s3://{bucket}/a/x.png")
    storage.delete(f"s3://{bucket}/a/x.png")
    assert client.list_objects_v2(Bucket=bucket)["KeyCount"] == 0


@pytest.mark.s3
def test_large_object_on_s3(bucket):
    data = os.urandom(12_000_000)
    storage.put(f"s3://{bucket}/large.bin", data)
    assert storage.get(f"s3://{bucket}/large.bin") == data
    assert os.environ["AWS_REQUEST_CHECKSUM_CALCULATION"] == "when_required"


@pytest.mark.s3
def test_missing_bucket_and_key_are_told_apart(endpoint, bucket):
    missing = f"s3://{uuid.uuid4().hex}"
    for call in (
        lambda: storage.get(f"{missing}/x.png"),
        lambda: storage.put(f"{missing}/x.png", b"1"),
        lambda: storage.delete(f"{missing}/x.png"),
        lambda: storage.list_entries(missing, (".png",)),
    ):
        with pytest.raises(
            StorageError, match=f"bucket {missing[5:]} does not exist at {endpoint}; "
        ):
            call()
    with pytest.raises(StorageError, match=r"/x\.png: does not exist; check the name"):
        storage.get(f"s3://{bucket}/x.png")
    assert not storage.exists(f"s3://{bucket}/x.png")
    assert not storage.exists(f"{missing}/x.png")


def attempts_at(uri):
    return (
        lambda: storage.get(uri),
        lambda: storage.get_range(uri, 0, 1),
        lambda: storage.put(uri, b"1"),
        lambda: storage.exists(uri),
        lambda: storage.delete(uri),
        lambda: storage.list_entries(uri, (".png",)),
    )


@pytest.mark.s3
def test_unreachable_endpoint(bucket, monkeypatch):
    monkeypatch.setattr(storage, "MAX_ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    for call in attempts_at(f"s3://{bucket}/x.png"):
        with pytest.raises(StorageError, match=r"127\.0\.0\.1:9 cannot be reached; check AWS_E"):
            call()
    monkeypatch.setenv("AWS_ENDPOINT_URL", "127.0.0.1:9")
    for call in attempts_at(f"s3://{bucket}/x.png"):
        with pytest.raises(StorageError, match=r"has no scheme; write http://127\.0\.0\.1:9"):
            call()
    monkeypatch.undo()
    assert keys(f"s3://{bucket}") == []


@pytest.mark.slow
@pytest.mark.s3
@pytest.mark.usefixtures("s3")
def test_unreachable_endpoint_is_reported_in_time(monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    start_s = time.monotonic()
    with pytest.raises(StorageError, match="cannot be reached"):
        storage.get("s3://bucket/x.png")
    assert time.monotonic() - start_s < 20


@pytest.fixture
def users(endpoint):
    """Return the keys of a user with every right and of one with none; signatures are checked."""
    import boto3

    def check_from(num_requests):
        body = str(num_requests).encode()
        urllib.request.urlopen(
            urllib.request.Request(
                f"{endpoint}/moto-api/reset-auth", data=body, headers={"Content-Type": "text/plain"}
            )
        ).close()

    iam = boto3.client("iam", endpoint_url=endpoint)
    statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    access_keys = []
    for name in (uuid.uuid4().hex, uuid.uuid4().hex):
        iam.create_user(UserName=name)
        access_keys.append(iam.create_access_key(UserName=name)["AccessKey"])
    policy = iam.create_policy(PolicyName=uuid.uuid4().hex, PolicyDocument=document)["Policy"]
    iam.attach_user_policy(UserName=access_keys[0]["UserName"], PolicyArn=policy["Arn"])
    check_from(0)
    yield [(key["AccessKeyId"], key["SecretAccessKey"]) for key in access_keys]
    check_from("inf")


@pytest.mark.s3
def test_refused_credentials(endpoint, bucket, users, monkeypatch):
    uri = f"s3://{bucket}/x.png"
    able, unable = users
    use(monkeypatch, able)
    storage.put(uri, b"1")
    assert storage.get(uri) == b"1"
    for refused in (unable, (able[0], "wrong"), ("AKIAUNKNOWN", "wrong")):
        use(monkeypatch, refused)
        for call in attempts_at(uri):
            with pytest.raises(StorageError) as caught:
                call()
            message = str(caught.value)
            assert (
                f"{uri}: {endpoint} refuses these credentials; check AWS_ACCESS_KEY_ID" in message
            )
            assert refused[1] not in message
    use(monkeypatch, able)
    assert storage.get(uri) == b"1"


def use(monkeypatch, credentials):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", credentials[0])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", credentials[1])


def test_a_pipe_and_a_device_are_no_files(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "endless.png").symlink_to("/dev/zero")
    for name in ("pipe.png", "endless.png"):
        with pytest.raises(StorageError, match="is a pipe or a device, not a file; remove it"):
            storage.get(str(tmp_path / name))
