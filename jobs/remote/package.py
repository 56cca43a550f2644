"""The working tree as one archive: what a submitted job runs.

In a checkout of git these are the files that git knows or would add, so .gitignore says what
stays here. Elsewhere it is everything but EXCLUDED. The same files make the same bytes, and a
cluster that has them is not sent them again.
"""

import fnmatch
import os
import re
import subprocess
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from jobs.errors import JobError

MAX_BYTES = 100 * 2**20
"""Most bytes of a tree. Ray keeps packages in the memory of the head and refuses 512 MiB."""
SHOWN_LARGEST = 5
EXCLUDED = (
    *(".git", ".hg", ".venv*", "venv", "node_modules", "__pycache__", ".*_cache", ".hypothesis"),
    *("runs", "dist", "build", "*.egg-info", "*.pyc", "mlruns", "*.db"),
)
"""Names that stay here where there is no git to ask."""
PRIVATE = (
    *(".env", ".env.*", ".netrc", ".pgpass", ".npmrc", ".pypirc", ".git-credentials", "*.pem"),
    *("*.key", "*.p12", "*.pfx", "*.kdbx", "id_rsa*", "id_dsa*", "id_ecdsa*", "id_ed25519*"),
    *("auth_token", "credentials", "credentials.json", "kubeconfig", "*.kubeconfig", ".aws"),
    *(".ssh", ".kube", ".docker"),
)
"""Names of files and folders that hold secrets by custom: they stay here even when git knows them.

`git add` forgets them easily, and a package is kept by the cluster for as long as it lives."""
SECRET = re.compile(r"(SECRET|TOKEN|PASSWORD|PASSPHRASE|API_KEY|ACCESS_KEY)(?!.*(_PATH|_FILE)$)")
"""Variables whose values must not stand in any file that is sent."""
SHORTEST_SECRET = 8
"""Characters; what is shorter stands everywhere."""
EPOCH = (1980, 1, 1, 0, 0, 0)
"""Time of every member: the archive depends on the contents alone."""


@dataclass(frozen=True)
class Tree:
    """The files of a working tree that may travel."""

    root: Path
    """The folder around them."""
    files: tuple[str, ...]
    """Their paths below it, sorted."""
    private: tuple[str, ...]
    """Paths left out because their names are those of secrets."""
    num_bytes: int
    """Bytes of all files."""

    @classmethod
    def of(cls, root: Path) -> "Tree":
        """Collect a checkout. Raises JobError when it is none, or too large."""
        if not (root / "jobs" / "cli.py").is_file():
            raise JobError(f"{root} is no checkout of this project; name one with --tree")
        found = [name for name in listed(root) if travels(root, name)]
        private = [name for name in found if is_private(name)]
        files = sorted(set(found) - set(private))
        sizes = {name: (root / name).stat().st_size for name in files}
        if (total := sum(sizes.values())) > MAX_BYTES:
            largest = sorted(sizes, key=lambda name: -sizes[name])[:SHOWN_LARGEST]
            named = ", ".join(f"{name} {sizes[name] / 2**20:.1f} MB" for name in largest)
            raise JobError(
                f"the working tree {root} has {total / 2**20:.0f} MB, more than the "
                f"{MAX_BYTES >> 20} MB that a cluster is sent; add what is not code to "
                f".gitignore, the largest are: {named}"
            )
        return cls(root, tuple(files), tuple(sorted(private)), total)

    def write(self, target: Path, environment: Mapping[str, str]) -> None:
        """Write the archive. Raises JobError when a file holds a secret of the environment."""
        secrets = {name: value.encode() for name, value in secrets_of(environment).items()}
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for name in self.files:
                data = (self.root / name).read_bytes()
                for variable, secret in secrets.items():
                    if secret in data:
                        raise JobError(
                            f"{name} holds the value of {variable} and is not sent; take it out, "
                            "or add the file to .gitignore"
                        )
                member = zipfile.ZipInfo(name, EPOCH)
                executable = os.access(self.root / name, os.X_OK)
                member.external_attr = (0o755 if executable else 0o644) << 16
                member.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(member, data)


def listed(root: Path) -> Iterable[str]:
    """Return the paths below a folder that are meant to be shared."""
    command = ["git", "-C", str(root), "ls-files", "-co", "--exclude-standard", "-z"]
    try:
        found = subprocess.run(  # noqa: S603 - nothing in it comes from outside
            command, capture_output=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return walked(root)
    return [os.fsdecode(name) for name in found.stdout.split(b"\0") if name]


def walked(root: Path) -> Iterable[str]:
    """Yield the paths of a folder that git does not know."""
    for folder, names, files in os.walk(root):
        names[:] = [name for name in names if not matches(name, EXCLUDED)]
        for name in files:
            if not matches(name, EXCLUDED):
                yield Path(folder, name).relative_to(root).as_posix()


def travels(root: Path, name: str) -> bool:
    """Tell whether a path is a file of this tree: git names deleted files and other trees too."""
    path = root / name
    return path.is_file() and path.resolve().is_relative_to(root.resolve())


def is_private(name: str) -> bool:
    """Tell whether a path has the name of a secret, or lies in a folder of secrets."""
    return any(matches(part, PRIVATE) for part in name.split("/"))


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a name is one of these, whatever its case."""
    return any(fnmatch.fnmatchcase(name.lower(), pattern) for pattern in patterns)


def secrets_of(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the secrets of an environment by the variable: tokens, passwords, keys."""
    found = {name: value for name, value in environment.items() if SECRET.search(name.upper())}
    for name, value in environment.items():
        if (password := re.search(r"://[^/@\s]*:([^/@\s]+)@", value)) is not None:
            found[name] = password[1]
    return {name: value for name, value in found.items() if len(value) >= SHORTEST_SECRET}
