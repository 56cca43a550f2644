"""The cluster, once for all tests of it; where there can be none they are skipped by name."""

from contextlib import closing

import pytest


@pytest.fixture(scope="session")
def work():
    """Start the hosts; whatever happens, nothing of them stays."""
    from tests.cluster import cluster

    if why := cluster.missing():
        pytest.skip(f"no cluster of namespaces: {why}")
    from tests.cluster.work import Work

    with closing(cluster.Cluster()) as made, closing(Work(made, num_photos=12)) as found:
        yield found
        print(made.logs())
