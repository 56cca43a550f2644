import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "infra" / "local_s3.py"

USE = """
import os
from jobs import place
from pipelines import storage
assert place.store() == "s3://demo"
storage.put("s3://demo/a b/#1.bin", b"bytes")
assert storage.get("s3://demo/a b/#1.bin") == b"bytes"
print(os.environ["AWS_ENDPOINT_URL"], os.environ["MLFLOW_TRACKING_URI"])
raise SystemExit(7)
"""


@pytest.mark.s3
def test_a_command_gets_a_bucket_by_environment_and_nothing_is_left(tmp_path):
    found = subprocess.run(
        [sys.executable, str(SCRIPT), "--", sys.executable, "-c", USE],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(SCRIPT.parents[1])},
    )
    assert found.returncode == 7, found.stderr
    lines = found.stdout.splitlines()
    database = Path(lines[1].split("sqlite:///")[1])
    assert not database.parent.exists()
    assert "S3 server stopped" in found.stderr
    assert list(tmp_path.iterdir()) == []
