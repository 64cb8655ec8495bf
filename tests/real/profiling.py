"""Profile a real SGLang on this machine's CPU: starts one, and asks `bestserve profile` of it with the words given.

    .venv/bin/python tests/real/profiling.py --out mine.toml --plots mine.html

Ten minutes, on a machine at rest. What else it does shows in the figures: the profile measures the two together.
"""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))

import backend


def main() -> int:
    with backend.sglang(backend.free_port()) as server:
        asked = [sys.executable, "-m", "bestserve.proxy", "profile", "--url", server.url, "--model", "smollm2", *sys.argv[1:]]
        return subprocess.run(asked, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
