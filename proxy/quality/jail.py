"""The inside of the sandbox: runs code that nobody has looked at. Never imported by us: `sandbox.py` starts it as `python -I -S jail.py`.

Before a line of that code runs, this process takes from itself everything that computing does not need:

    limits    processor seconds and address space; no core dumps
    seccomp   a list of system calls that are allowed, through libseccomp; every other one fails with EPERM. There is no file to open,
              not even to read, no name to change, no fork and no thread, no socket, no signal to others, and no way back
    parent    dies with it

What it may still do: compute, with the modules below, and write to its one pipe. It is told which calls to evaluate, and not what they
should give: the comparison is made outside.
"""

import ctypes
import importlib
import json
import os
import resource
import signal
import sys
from typing import Any

MODULES = """
abc array ast base64 binascii bisect calendar cmath codecs collections collections.abc contextlib copy csv dataclasses datetime _strptime
decimal difflib encodings.ascii encodings.cp1252 encodings.hex_codec encodings.idna encodings.latin_1 encodings.rot_13 encodings.utf_16
encodings.utf_16_be encodings.utf_16_le encodings.utf_32 encodings.utf_32_be encodings.utf_32_le enum fractions functools graphlib hashlib
heapq hmac html html.parser inspect io itertools json keyword locale math numbers operator os os.path pathlib pprint queue random re secrets
shlex statistics string stringprep struct sys textwrap time timeit token tokenize traceback types typing unicodedata unittest urllib.parse
uuid warnings weakref zlib zoneinfo
"""
"""What the code may import: loaded before the door closes, for no file can be read after it."""

COMPUTING = """
read readv write writev close lseek fstat newfstatat getcwd fcntl dup poll ppoll select pselect6
mmap munmap mremap mprotect madvise brk
rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack restart_syscall
futex get_robust_list set_robust_list rseq sched_yield sched_getaffinity getcpu
clock_gettime clock_getres clock_nanosleep nanosleep gettimeofday time times getrusage getrlimit
getpid gettid getppid getuid geteuid getgid getegid getgroups getpgrp getpgid getsid uname sysinfo getrandom
exit exit_group
"""
"""System calls that Python needs to compute."""

ALLOW, FORBID = 0x7FFF0000, 0x00050000 | 1  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM)
NO_NEW_PRIVILEGES, DIE_WITH_PARENT = 38, 1  # PR_SET_NO_NEW_PRIVS, PR_SET_PDEATHSIG
MOST = 64 * 1024  # characters of all the results together


def main() -> None:
    asked = json.loads(sys.stdin.buffer.read())
    out = os.dup(1)
    nowhere = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nowhere, standard)
    for module in MODULES.split():
        importlib.import_module(module)
    limit(asked["cpu_s"], asked["memory"])
    lock()
    said = json.dumps(evaluated(asked["code"], asked["calls"]))
    os.write(out, (said if len(said) <= MOST else json.dumps({"failed": "the results are too long"})).encode())
    os._exit(0)


def limit(cpu_s: int, memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s))
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def lock() -> None:
    """Give up every system call but the ones above. Raises OSError where the kernel or libseccomp will not have it."""
    libc, seccomp = ctypes.CDLL(None), ctypes.CDLL("libseccomp.so.2")
    seccomp.seccomp_init.restype = ctypes.c_void_p
    seccomp.seccomp_init.argtypes = [ctypes.c_uint32]
    seccomp.seccomp_load.argtypes = [ctypes.c_void_p]
    seccomp.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p]
    rules = seccomp.seccomp_init(FORBID)
    for name in COMPUTING.split():
        number = seccomp.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else this processor, or this libseccomp, does not have it
            must(seccomp.seccomp_rule_add_array(rules, ALLOW, number, 0, None))
    must(libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0))
    must(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0))
    must(seccomp.seccomp_load(rules))


def must(status: int) -> None:
    if status != 0:
        raise OSError(f"the sandbox cannot be closed: status {status}")


def evaluated(code: str, calls: list[str]) -> dict[str, Any]:
    """What each call gives after the code has run: {"value": …} or {"error": its name}. What was defined before the code failed counts."""
    names: dict[str, Any] = {"__name__": "answer"}
    failed = None
    try:
        exec(compile(code, "answer", "exec"), names)  # noqa: S102  the very purpose of this process
    except BaseException as error:
        failed = type(error).__name__
    return {"failed": failed, "results": [one(call, names) for call in calls]}


def one(call: str, names: dict[str, Any]) -> dict[str, Any]:
    try:
        value = json.dumps(eval(call, names), default=plain)  # noqa: S307  likewise
        return {"value": json.loads(value)}
    except BaseException as error:
        return {"error": type(error).__name__}


def plain(value: object) -> object:
    """Sets and their like as sorted lists; anything else that JSON has no word for is an error."""
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    if isinstance(value, range | map | filter | zip) or hasattr(value, "__next__"):
        return list(value)  # type: ignore[call-overload]
    if hasattr(value, "keys") and hasattr(value, "__getitem__"):
        return dict(value)
    return list(value)  # type: ignore[call-overload]


if __name__ == "__main__":
    main()
