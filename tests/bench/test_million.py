"""What the bench of a million says of memory."""

import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

import million

HOLD = 50_000_000
CHILD = f"import time; held = b'x' * {HOLD}; time.sleep(1)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], check=True)"


@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads memory from /proc, which only Linux has; nothing of the product does")
def test_memory_is_that_of_a_process_and_its_children():
    """Together, at its most."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT])
    watch = million.Watch(parent.pid)
    watch.start()
    parent.wait()
    watch.join(timeout=10)
    assert not watch.is_alive()
    assert HOLD < watch.most < 3 * HOLD
