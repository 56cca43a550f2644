"""Loaders to stand beside: the least that does the same work, and what others do.

All of them give pairs of crops from clean photos, turned at random, with Gaussian noise of sigma
0 to 50. Those that can, cut several crops from one decode.
"""

import io
import itertools
import multiprocessing
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

from pipelines import images, shards
from pipelines.degradations import GaussianNoise
from pipelines.pairs import Synthesised
from pipelines.scenes import Crop, Decoded, Form, Scene

PATCH = 128
PROCESSES = 2
PAIRS = Synthesised(GaussianNoise(sigma=(0, 50)))
FORM = Form(bits=8, channels=3)


def opened(path, key="", offset=0, num_bytes=-1):
    """Return the scene of an image file, or of one image of a shard of tiles."""
    with Path(path).open("rb") as file:
        file.seek(offset)
        data = file.read(num_bytes)
    if num_bytes < 0:
        return Scene(Decoded(images.decode(data).pixels))
    return Scene(shards.unpack(key, data))


def cut(scene, num, rng):
    """Return `num` samples of a scene, gt uint8 and lq float16."""
    gt = np.empty((num, PATCH, PATCH, 3), np.uint8)
    lq = np.empty(gt.shape, np.float16)
    for row in range(num):
        crop = Crop.draw(scene.gt.shape, PATCH, PAIRS, rng)
        gt[row], lq[row] = scene.cut(crop, PAIRS, FORM, rng)
    return gt, lq


def loop_over(task):
    """Cut crops from photos one after the other in this process; return how many."""
    places, crops_per_visit, seed = task
    cv2.setNumThreads(0)
    rng = np.random.default_rng(seed)
    return sum(len(cut(opened(*place), crops_per_visit, rng)[0]) for place in places)


class PlainLoop:
    """The limit: processes that loop, and nothing goes between them."""

    def __init__(self, places, crops_per_visit, pool=None):
        self.places, self.crops = places, crops_per_visit
        self.pool = pool or multiprocessing.get_context("spawn").Pool(PROCESSES)
        self.pool.map(loop_over, [(places[:1], 1, 0)] * PROCESSES)

    def __call__(self, num_crops):
        visits = list(itertools.islice(itertools.cycle(self.places), num_crops // self.crops))
        shares = [visits[n::PROCESSES] for n in range(PROCESSES)]
        return sum(self.pool.map(loop_over, [(s, self.crops, n) for n, s in enumerate(shares)], 1))

    def close(self):
        self.pool.terminate()
        self.pool.join()


class OneCropOfFloats(Dataset):
    """The habit of the field: the whole photo as float32, one crop of it, float32 tensors."""

    def __init__(self, places):
        self.places = places
        self.length = 0

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        rng = np.random.default_rng(index)
        data = np.fromfile(self.places[index % len(self.places)][0], np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR).astype(np.float32) / 255
        top, left = (rng.integers(side - PATCH + 1) for side in image.shape[:2])
        gt = image[top : top + PATCH, left : left + PATCH]
        if rng.random() < 0.5:
            gt = gt[:, ::-1]
        if rng.random() < 0.5:
            gt = gt.transpose(1, 0, 2)
        noise = rng.standard_normal(gt.shape, dtype=np.float32) * np.float32(rng.uniform(0, 50))
        lq = gt + noise / np.float32(255)
        return {"lq": self.tensor(lq), "gt": self.tensor(gt)}

    @staticmethod
    def tensor(pixels):
        rgb = cv2.cvtColor(np.ascontiguousarray(pixels), cv2.COLOR_BGR2RGB)
        return torch.from_numpy(np.ascontiguousarray(rgb.transpose(2, 0, 1)))


class ManyCrops(Dataset):
    """One item is one decode and all its crops, in the levels of the file."""

    def __init__(self, places, crops_per_visit):
        self.places, self.crops = places, crops_per_visit
        self.length = 0

    def __len__(self):
        return self.length // self.crops

    def __getitem__(self, index):
        scene = opened(*self.places[index % len(self.places)])
        gt, lq = cut(scene, self.crops, np.random.default_rng(index))
        return {"lq": torch.from_numpy(lq), "gt": torch.from_numpy(gt)}


class TorchLoader:
    """A DataLoader over one of the datasets above."""

    def __init__(self, dataset, **options):
        self.dataset = dataset
        dataset.length = 2**20
        self.options = {"num_workers": PROCESSES, "worker_init_fn": one_thread, **options}

    def __call__(self, num_crops):
        self.dataset.length = num_crops
        # Its workers have a copy of the dataset, so each run starts them anew.
        loader = DataLoader(self.dataset, multiprocessing_context="fork", **self.options)
        return sum(batch["gt"].flatten(0, -4).shape[0] for batch in loader)

    def close(self):
        pass


def one_thread(_worker):
    cv2.setNumThreads(0)
    torch.set_num_threads(1)


def web_dataset(folder, paths):
    """Write photos as tar files of WebDataset; return its pattern."""
    import webdataset

    for shard in range(PROCESSES):
        with webdataset.TarWriter(str(folder / f"photos-{shard}.tar")) as writer:
            for path in paths[shard::PROCESSES]:
                writer.write({"__key__": Path(path).stem, "png": Path(path).read_bytes()})
    return str(folder / f"photos-{{0..{PROCESSES - 1}}}.tar")


class WebCrops(IterableDataset):
    """WebDataset's reading of tar files, then many crops of each photo."""

    def __init__(self, pattern, crops_per_visit):
        self.pattern, self.crops, self.length = pattern, crops_per_visit, 0

    def __iter__(self):
        import webdataset

        visits = self.length // self.crops // PROCESSES
        rng = np.random.default_rng(0)
        photos = webdataset.WebDataset(
            self.pattern, shardshuffle=False, nodesplitter=None, empty_check=False
        ).repeat()
        for photo in itertools.islice(iter(photos), visits):
            scene = Scene(Decoded(images.decode(io.BytesIO(photo["png"]).getvalue()).pixels))
            gt, lq = cut(scene, self.crops, rng)
            yield {"lq": torch.from_numpy(lq), "gt": torch.from_numpy(gt)}
