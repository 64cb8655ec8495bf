"""Run SGLang's server on a CPU, with the shim in place of what is not installed. Takes SGLang's own options.

Not for the project's interpreter but for `.real/venv`; `backend.py` calls it. SGLang starts its scheduler and detokenizer
by 'spawn', and each child imports this file again: so the shim is put in place above the guard, for all of them.
"""

import ctypes
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent / "shim"))
os.environ["SGLANG_USE_CPU_ENGINE"] = "1"  # noqa: TID251  SGLang reads it while it is imported

import vision_ops

vision_ops.declare()


def end_with_parent() -> None:
    """Be killed when the process that started us is gone, even if it was killed itself. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # 1 is PR_SET_PDEATHSIG


def main() -> None:
    end_with_parent()
    from sglang.launch_server import run_server
    from sglang.srt.server_args import prepare_server_args
    from sglang.srt.utils import kill_process_tree

    try:
        run_server(prepare_server_args(sys.argv[1:]))
    finally:
        kill_process_tree(os.getpid(), include_parent=False)


if __name__ == "__main__":
    main()
