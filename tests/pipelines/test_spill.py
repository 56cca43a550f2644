"""Memory of the stream: photos of 4K through a store that is far too small for them."""

import json
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.pipelines.test_training import write_photos

ROOT = Path(__file__).parents[2]
STREAM = """
import json, re, subprocess, sys
from pathlib import Path
import ray
from laformer.batches import Lanes, steps_of
from pipelines.tasks import TASKS
from pipelines.training import TrainingStream

ray.init(address="local", num_cpus=2, object_store_memory=200 * 2**20, include_dashboard=False,
         log_to_driver=False, logging_level="ERROR")
options = {"seed": 0, "global_batch": 8, "crops_per_visit": 16, "visits_per_window": 2}
stream = TrainingStream.create(
    (sys.argv[1],), task=TASKS["denoise-gaussian"], patch_px=128, plan_options=options
)
steps = 6 * stream.plan.window_steps
(iterator,) = stream.segment(0, steps, 1).streaming_split(1, equal=True)
blocks = iterator.iter_batches(batch_size=None, batch_format="numpy", prefetch_batches=2)
rows = sum(len(r["gt"]) for p in steps_of(blocks, Lanes.of(0, 1, 8), first_step=0) for r in p)
address = ray.get_runtime_context().gcs_address
stats = subprocess.run([str(Path(sys.executable).parent / "ray"), "memory", "--stats-only",
                        "--address", address], capture_output=True, text=True, check=True).stdout
heaps = []
for status in Path("/proc").glob("[0-9]*/status"):
    try:
        text, command = status.read_text(), (status.parent / "cmdline").read_bytes()
    except OSError:
        continue
    if command.startswith((b"ray::IDLE", b"ray::MapBatches")):
        peak, shared = (int(re.search(rf"{name}:\\s+(\\d+)", text)[1]) / 1024
                        for name in ("VmHWM", "RssShmem"))
        heaps.append(peak - shared)
print(json.dumps({"rows": rows, "stats": stats, "heaps": heaps,
                  "streamed": stream.row_bytes * rows, "window": stream.window_bytes}))
"""


@pytest.mark.ray
def test_photos_of_4k_spill_nothing_and_heaps_stay_bounded(tmp_path):
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (90, 160, 3), dtype=np.uint8)
    frame = cv2.resize(small, (3840, 2160), interpolation=cv2.INTER_LINEAR)
    uri = write_photos(tmp_path, {f"{i}.png": np.roll(frame, 40 * i, 1) for i in range(3)})
    found = subprocess.run(
        [sys.executable, "-c", STREAM, uri], cwd=ROOT, capture_output=True, text=True, check=True
    )
    result = json.loads(found.stdout.splitlines()[-1])
    assert result["rows"] == 6 * 32 * 8
    # More went through than the store holds, so what is not freed would have to be spilled.
    assert result["streamed"] > 200 * 2**20
    assert "Spilled" not in result["stats"], result["stats"]
    assert re.search(r"Plasma memory usage \d+ MiB", result["stats"])
    # A worker of Ray with OpenCV and Arrow is about 250 MB; five files, a photo while it is decoded
    # and a block while it is handed over are the rest; the jobs let processes keep freed memory.
    assert max(result["heaps"]) < 800, result
