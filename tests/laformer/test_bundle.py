"""The weights that come with the package."""

import cv2
import numpy as np
import pytest
import skimage

from laformer import bundle, checkpoint
from laformer.errors import ModelError
from laformer.metrics import psnr, quantise
from laformer.restore import Restorer
from pipelines.tasks import TASKS

MOST_BYTES = 8 * 2**20


def test_all_of_them_are_small_and_have_a_card():
    folders = [bundle.folder(task) for task in bundle.tasks()]
    sizes = [path.stat().st_size for folder in folders for path in folder.iterdir()]
    assert 0 < sum(sizes) <= MOST_BYTES
    assert all((folder / "README.md").is_file() for folder in folders)


@pytest.mark.parametrize("task", bundle.tasks())
def test_each_is_whole_and_makes_a_photo_better(task):
    folder, pairs = bundle.folder(task), TASKS[task].pairs
    checkpoint.verify(folder)
    assert checkpoint.read_facts(folder)["task"] == task
    gt = skimage.data.astronaut()[:128, 160:288]
    lq = pairs.degrade(gt, np.random.default_rng(1))
    lq = lq if lq.dtype == np.uint8 else quantise(lq)
    restored = Restorer.load(folder)(lq)
    side = gt.shape[0]
    plain = lq if pairs.scale == 1 else cv2.resize(lq, (side, side), interpolation=cv2.INTER_CUBIC)
    assert psnr(restored, gt) > psnr(plain, gt) + 0.3


def test_a_task_without_weights_is_told_those_that_have_them():
    with pytest.raises(ModelError, match=r"no weights for 'derain'.*denoise-gaussian"):
        bundle.folder("derain")
