"""A host: namespaces for its network, its processes, its mounts and its name."""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from tests.cluster.network import PREFIX

DISK = Path("/run/laformer-host")
"""Where every host has a disk of its own, which nobody else sees and which goes with it."""
BOOT = """
set -e
hostname {name}
mount --bind {names} /etc/hosts
mount -t tmpfs -o size={disk_mb}m tmpfs {disk}
mkdir {disk}/home {disk}/tmp
mount -t tmpfs -o size=1g tmpfs /dev/shm
touch {ready}
while true; do sleep 3600 & wait; done
"""
BOOT_S = 20


class Host:
    """A host that is switched on, and off as a power cut would."""

    def __init__(self, name, address, scratch, disk_mb=800):
        self.name, self.address, self.scratch = name, address, Path(scratch)
        self.disk_mb, self.environment = disk_mb, {}
        self.boot()

    def boot(self):
        """Switch on, with an empty disk."""
        DISK.mkdir(exist_ok=True)
        ready = self.scratch / f"{self.name}.ready"
        ready.unlink(missing_ok=True)
        script = BOOT.format(
            name=self.name,
            names=self.scratch / "hosts",
            disk=DISK,
            disk_mb=self.disk_mb,
            ready=ready,
        )
        self.power = subprocess.Popen(
            [
                *("ip", "netns", "exec", PREFIX + self.name),
                # Nothing of it outlives the process that made it.
                *("setpriv", "--pdeathsig", "KILL"),
                *("unshare", "--pid", "--fork", "--kill-child", "--mount-proc", "--uts", "--ipc"),
                *("bash", "-c", script),
            ],
            stdin=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + BOOT_S
        while not ready.exists():
            assert self.power.poll() is None, f"{self.name} does not boot"
            assert time.monotonic() < deadline, f"{self.name} does not boot"
            time.sleep(0.02)
        children = Path(f"/proc/{self.power.pid}/task/{self.power.pid}/children").read_text()
        self.first = int(children.split()[0])

    @property
    def entry(self):
        """Return the words before a command that runs here."""
        spaces = ("--pid", "--mount", "--uts", "--ipc", "--net")
        return ["nsenter", "--target", str(self.first), *spaces, "--"]

    def start(self, *command, **environment):
        """Start a command; its output goes to a file beside the others of the cluster."""
        with (self.scratch / f"{self.name}.log").open("a") as log:
            return subprocess.Popen(
                [*self.entry, *map(str, command)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.surroundings(**environment),
                start_new_session=True,
            )

    def run(self, *command, **environment):
        """Run a command to its end; return what it printed."""
        found = subprocess.run(
            [*self.entry, *map(str, command)],
            capture_output=True,
            text=True,
            check=False,
            env=self.surroundings(**environment),
        )
        assert found.returncode == 0, f"{command} on {self.name}: {found.stdout}{found.stderr}"
        return found.stdout

    def surroundings(self, **environment):
        home = {"HOME": f"{DISK}/home", "TMPDIR": f"{DISK}/tmp"}
        return os.environ | home | self.environment | environment

    def pids(self, text=""):
        """Return the processes that run here, by their numbers outside, with this in their name."""
        if self.power.poll() is not None:
            return []
        own = Path(f"/proc/{self.first}/ns/pid").readlink()
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (
                    (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                )
                if (process / "ns/pid").readlink() == own and text in words:
                    found.append(int(process.name))
        return sorted(found)

    def signal(self, text, number=signal.SIGKILL):
        """Signal the processes with this in their name; return how many there were."""
        pids = self.pids(text)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        return len(pids)

    def kill(self):
        """Switch off: with the first process the kernel ends all others, and the disk is gone."""
        self.power.kill()
        self.power.wait()

    def is_on(self):
        return self.power.poll() is None
