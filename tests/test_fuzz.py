"""A thousand damaged files; `python -m tests.fuzz` throws a million."""

import numpy as np

from tests import fuzz


def test_what_reads_files_answers_or_refuses():
    answered = dict.fromkeys(fuzz.readers(), 0)
    for name, (read, originals) in fuzz.readers().items():
        files = originals()
        assert any(fuzz.tried(read, data) for data in files), name
        for number in range(200):
            data = fuzz.damaged(files, np.random.default_rng([7, number]))
            answered[name] += fuzz.tried(read, data)
    assert all(count < 200 for count in answered.values())
