"""A shelf on a disk, for tests that need no storage."""

import shutil
from contextlib import contextmanager
from pathlib import Path

from laformer import checkpoint


class FolderShelf:
    def __init__(self, root):
        self.root = Path(root)

    def folder(self, step):
        return self.root / str(step)

    def steps(self):
        return sorted((int(f.name) for f in self.root.glob("*")), reverse=True)

    def scores(self):
        complete = [s for s in self.steps() if (self.folder(s) / checkpoint.SUMS).exists()]
        return {s: checkpoint.read_facts(self.folder(s)).get("val_psnr_db") for s in complete}

    @contextmanager
    def opened(self, step):
        yield self.folder(step)

    def store(self, step, files):
        self.folder(step).mkdir(parents=True, exist_ok=True)
        for name, data in files:
            (self.folder(step) / name).write_bytes(data)

    def drop(self, step):
        shutil.rmtree(self.folder(step))
