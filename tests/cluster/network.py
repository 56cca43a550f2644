"""A network of namespaces: every host has an address in it, and none sees the machine's own.

The switch stands in a namespace too, so the machine's interfaces and routes stay as they are.
"""

import contextlib
import ctypes
import json
import os
import shutil
import signal
import subprocess
from contextlib import contextmanager
from pathlib import Path

PREFIX = "laformer-"
"""Before the names of the namespaces; what is left of an earlier run is known by it."""
SUBNET = "10.87.0"
DEVICE = "eth0"
"""The network card of every host."""
NEW_NETWORK = 0x40000000
"""CLONE_NEWNET of Linux."""


def missing():
    """Return what this machine lacks for such a network, in words; empty when nothing."""
    if os.geteuid() != 0:
        return "needs root"
    for tool in ("ip", "nsenter", "setpriv", "unshare"):
        if shutil.which(tool) is None:
            return f"needs {tool}: apt-get install iproute2 util-linux"
    found = subprocess.run(
        ["ip", "netns", "add", f"{PREFIX}try"], capture_output=True, text=True, check=False
    )
    if found.returncode:
        return f"cannot make network namespaces: {found.stderr.strip()}"
    ip("netns", "del", f"{PREFIX}try")
    return ""


class Network:
    """A switch, and the hosts that are plugged into it."""

    def __init__(self):
        clear()
        self.switch = f"{PREFIX}switch"
        ip("netns", "add", self.switch)
        inside(self.switch, "link", "add", "switch", "type", "bridge")
        inside(self.switch, "link", "set", "switch", "up")

    def join(self, name, number):
        """Plug a host in; return its address."""
        namespace, address = PREFIX + name, f"{SUBNET}.{number}"
        ip("netns", "add", namespace)
        inside(namespace, "link", "set", "lo", "up")
        peer = ("peer", "name", DEVICE, "netns", namespace)
        inside(self.switch, "link", "add", name, "type", "veth", *peer)
        inside(namespace, "addr", "add", f"{address}/24", "dev", DEVICE)
        inside(namespace, "link", "set", DEVICE, "up")
        inside(self.switch, "link", "set", name, "master", "switch", "up")
        return address

    def cut(self, name):
        """Lose what a host sends and what is sent to it; nobody is told."""
        inside(self.switch, "link", "set", name, "nomaster")

    def heal(self, name):
        inside(self.switch, "link", "set", name, "master", "switch")

    def close(self):
        clear()


def clear():
    """Remove all namespaces of ours and what runs in them."""
    listed = ip("-json", "netns", "list").strip()
    for each in json.loads(listed) if listed else ():
        name = each["name"]
        if name.startswith(PREFIX):
            for pid in ip("netns", "pids", name).split():
                if int(pid) != os.getpid():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            ip("netns", "del", name)


@contextmanager
def entered(name):
    """Be in a host's network: this thread, those it starts, and what they start."""
    own = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    other = os.open(Path("/run/netns", PREFIX + name), os.O_RDONLY)
    try:
        _enter(other)
        yield
    finally:
        _enter(own)
        os.close(own)
        os.close(other)


def _enter(namespace):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, NEW_NETWORK):
        raise OSError(ctypes.get_errno(), "cannot enter a network namespace")


def inside(namespace, *words):
    """Run ip on a namespace."""
    return ip("-n", namespace, *words)


def ip(*words):
    found = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    assert found.returncode == 0, f"ip {' '.join(words)}: {found.stderr}"
    return found.stdout
