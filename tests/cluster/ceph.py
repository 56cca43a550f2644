"""A durable S3 server on a host: a monitor, a disk and the gateway of Ceph, as Debian has them."""

import shutil
import time
import uuid

from tests.cluster.host import DISK

PACKAGES = "ceph-mon ceph-osd radosgw ceph-common"
PORT = 7480
SETTINGS = """
[global]
fsid = {fsid}
mon host = [v2:{address}:3300/0,v1:{address}:6789/0]
public addr = {address}
keyring = {root}/keyring
auth allow insecure global id reclaim = false
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd pool default pg autoscale mode = off
osd crush chooseleaf type = 0
mon allow pool size one = true
mon max pg per osd = 1000
mon data avail warn = 1
mon data avail crit = 1
osd objectstore = bluestore
bluestore block size = 8589934592
bluestore block create = true
osd memory target = 1073741824
osd op num shards = 2
osd op num threads per shard = 1
run dir = {run}
admin socket = {run}/$name.asok
log file = {root}/$name.log
mon cluster log file = {root}/cluster.log
crash dir = {root}
mon data = {root}/mon
osd data = {root}/osd
[client.rgw.a]
rgw data = {root}/rgw
rgw frontends = beast endpoint={address}:{port} tcp_nodelay=1
rgw thread pool size = 32
rgw dynamic resharding = false
"""
START_S = 90
RIGHTS = {
    "mon.": {"mon": "allow *"},
    "client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *"},
    "osd.0": {"mon": "allow profile osd", "osd": "allow *", "mgr": "allow profile osd"},
    "client.rgw.a": {"mon": "allow rw", "osd": "allow rwx", "mgr": "allow rw"},
}
"""Who may do what: the gateway insists on keys, also where all of it is one host."""


def missing():
    """Return what this machine lacks for the server, in words; empty when nothing."""
    for program in ("ceph-mon", "ceph-osd", "radosgw", "ceph"):
        if shutil.which(program) is None:
            return f"needs Ceph: apt-get install -y --no-install-recommends {PACKAGES}"
    return ""


class Ceph:
    """The server; what it has acknowledged survives the end of all its processes."""

    def __init__(self, host, root):
        self.host, self.root = host, root
        self.conf = root / "ceph.conf"
        self.url = f"http://{host.address}:{PORT}"

    def create(self, access, secret):
        """Make an empty store with one user, and start it."""
        fsid, address = str(uuid.uuid4()), self.host.address
        for name in ("mon", "osd", "rgw"):
            (self.root / name).mkdir(parents=True)
        fields = {"fsid": fsid, "address": address, "port": PORT, "root": self.root}
        self.conf.write_text(SETTINGS.format(run=DISK, **fields))
        keys, monitors = self.root / "keyring", self.root / "monmap"
        keys.touch()
        for name, rights in RIGHTS.items():
            caps = [word for kind, right in rights.items() for word in ("--cap", kind, right)]
            self.host.run("ceph-authtool", keys, "--gen-key", "--name", name, *caps)
        places = f"[v2:{address}:3300,v1:{address}:6789]"
        self.host.run("monmaptool", "--create", "--fsid", fsid, "--addv", "a", places, monitors)
        self._run("ceph-mon", "--mkfs", "-i", "a", "--monmap", monitors, "--keyring", keys)
        self._start_monitor()
        disk = str(uuid.uuid4())
        self._run("ceph", "osd", "new", disk, "0")
        self._run("ceph-osd", "--mkfs", "-i", "0", "--osd-uuid", disk)
        self._start_rest()
        user = ("--uid=laformer", "--display-name=laformer")
        keys = (f"--access-key={access}", f"--secret={secret}")
        self._run("radosgw-admin", "user", "create", *user, *keys)

    def restart(self):
        """Start what was killed."""
        self._start_monitor()
        self._start_rest()

    def kill(self):
        """SIGKILL every process of it."""
        for name in ("radosgw", "ceph-osd", "ceph-mon"):
            self.host.signal(name)

    def _start_monitor(self):
        self.host.start("ceph-mon", "-f", "-i", "a", "-c", self.conf)
        self._wait("ceph", "mon", "stat")

    def _start_rest(self):
        self.host.start("ceph-osd", "-f", "-i", "0", "-c", self.conf)
        self._wait("ceph", "osd", "stat", text="1 up")
        self.host.start("radosgw", "-f", "-n", "client.rgw.a", "-c", self.conf)
        self._wait("curl", "--silent", "--max-time", "2", self.url, text="<")

    def _run(self, program, *words):
        limit = ("timeout", "60") if program in ("ceph", "radosgw-admin") else ()
        conf = ("-c", self.conf) if program != "curl" else ()
        return self.host.run(*limit, program, *conf, *words)

    def _wait(self, *words, text=""):
        deadline = time.monotonic() + START_S
        while True:
            try:
                if text in self._run(*words):
                    return
                told = f"{words} does not say {text!r}"
            except AssertionError as error:
                told = str(error)
            assert time.monotonic() < deadline, told
            time.sleep(0.3)
