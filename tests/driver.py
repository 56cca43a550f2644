"""The training command as tests of whole hosts want it: python -m tests.driver train --job FILE.

Its workers keep a record of what they do, and hosts are looked for every few seconds.
"""

import sys

from jobs import cli, train
from jobs.training import elastic
from tests import faults

if __name__ == "__main__":
    elastic.RESIZE_S = 2.0
    train.train_worker = faults.recorded
    sys.exit(cli.main())
