"""A run with nothing in its way: what disturbed ones must come to as well."""

import contextlib
import io
from typing import NamedTuple

import pytest


class Undisturbed(NamedTuple):
    """What the run left behind."""

    sums: dict
    """Checksums of the weights and of the optimiser's state after the last step."""
    sha256: str
    """Digest of the released weights."""


@pytest.fixture(scope="session")
def undisturbed(cluster, tmp_path_factory):
    """Train in two stages, once for all tests that compare with it."""
    from jobs import prepare, train
    from jobs.checkpoints import StoredShelf
    from jobs.config import PrepareJob
    from tests.jobs.test_way import in_two_stages, sums, upload

    store = str(tmp_path_factory.mktemp("undisturbed"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LAFORMER_STORE", store)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        upload(f"{store}/photos", 6)
        prepare.run(PrepareJob(photos=f"{store}/photos", holdout=0.3))
        with contextlib.redirect_stdout(io.StringIO()) as said:
            trained = train.run(in_two_stages("whole"))
    assert "was lost" not in said.getvalue()
    assert "continuing" not in said.getvalue()
    shelf = StoredShelf(f"{store}/train/whole")
    assert set(shelf.complete()) == {40, 32, 24, shelf.best_first()[0]}
    return Undisturbed(sums(shelf.uri, 40), trained.version.tags["sha256"])
