"""`bestserve simulate --json`, for tests of what it is told."""

from pathlib import Path
from typing import Any

import orjson
from click.testing import CliRunner

from bestserve.proxy.cli import main

FLEETS = Path(__file__).parents[2] / "bench" / "fleets"


def simulated(fleet: Path, workload: object, *words: str) -> dict[str, Any]:
    """What it says."""
    said = CliRunner().invoke(main, ["simulate", "--fleet", str(fleet), "--workload", str(workload), *words, "--json"])
    assert said.exit_code == 0, said.output
    return orjson.loads(said.stdout)
