"""Code that nobody has looked at: what it may do, and that everything else fails or ends.

Nothing here would harm the machine if the sandbox were open: signals are the one that only asks (0), a bomb forks three times.
"""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from bestserve.proxy.quality import jail, sandbox
from bestserve.proxy.quality.sandbox import Error, run

pytestmark = pytest.mark.skipif(sandbox.lack() is not None, reason=str(sandbox.lack()))

FORK_BOMB = """
import os
n = 0
def bomb():
    global n
    for _ in range(3):
        os.fork()
        n += 1
"""
REFUSED = {"PermissionError", "ImportError", "ModuleNotFoundError"}


def test_calls_are_evaluated_after_the_code():
    """Values come back as JSON has them; a call that raises is an Error by name, and the others still count."""
    ran = run("def double(x):\n    return 2 * x", ["double(21)", "double('ab')", "(1, 2)", "double(None)", "{3, 1, 2}"])

    assert ran.values == (42, "abab", [1, 2], Error("TypeError"), [1, 2, 3])
    assert ran.why is None


def test_what_was_defined_before_a_failure_counts():
    """An example at the end that asks for input does not undo the function above it."""
    ran = run("def f():\n    return 1\nn = input()", ["f()"])

    assert ran.values == (1,)
    assert ran.why == "EOFError"


def test_the_modules_of_computing_are_there():
    """Every one that is promised, also those that other modules load late: parsing a date, a class with generated methods, a hash."""
    code = "\n".join(f"import {name}" for name in jail.MODULES.split())
    calls = [
        "statistics.median([3, 1, 2])",
        "str(decimal.Decimal('0.1') + 1)",
        "datetime.datetime.strptime('2024-02-29', '%Y-%m-%d').isoformat()",
        "dataclasses.asdict(dataclasses.make_dataclass('P', ['x'])(1))",
        "hashlib.sha256(b'').hexdigest()[:4]",
        "'Grüße'.encode('utf-16-le').decode('utf-16-le')",
        "re.sub(r'\\d+', 'n', 'a12')",
        "random.Random(1).randint(1, 1)",
    ]

    ran = run(code, calls)

    assert ran.why is None
    assert ran.values == (2, "1.1", "2024-02-29T00:00:00", {"x": 1}, "e3b0", "Grüße", "an", 1)


def test_other_modules_cannot_be_imported():
    """Neither what is installed beside us nor the rest of the standard library."""
    values = run("", ["__import__('numpy').array([1])", "__import__('bestserve')", "__import__('sqlite3')"]).values

    assert {type(value) for value in values} == {Error}


@pytest.mark.parametrize("code", ["while True: pass", "import time\ntime.sleep(1000)", "import re\nre.match('(a*)*$', 'a' * 99 + 'b')"])
def test_what_does_not_end_is_ended(code):
    """A loop, a sleep, and a pattern that backtracks for ever: soon after the limit."""
    began = time.monotonic()

    assert run(code, ["1"], wall_s=1.0).why == "its time was up"
    assert time.monotonic() - began < 4


def test_the_processor_is_limited_too(monkeypatch):
    """Where the wall clock is generous, the kernel ends it by its processor seconds."""
    monkeypatch.setattr(sandbox, "CPU_S", 1)
    began = time.monotonic()

    assert run("while True: pass", ["1"], wall_s=60).why == "it ended without a result"
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("bomb", ["bytearray(4 * 1024**3)", "[0] * 10**10", "'x' * (10**10)", "list(iter(int, 1))"])
def test_memory_is_limited(bomb):
    """A bomb fails inside, and the machine does not feel it."""
    assert run("", [bomb]).values in ((Error("MemoryError"),), ())


@pytest.mark.parametrize(
    "call",
    [
        "os.fork()",
        "os.execv('/bin/true', ['true'])",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "__import__('socket').socket() and None",
        "__import__('_socket').socket() and None",
        "os.kill(os.getppid(), 0)",
        "os.kill(1, 0)",
        "os.setuid(0)",
        "os.chmod('.', 0o777)",
        "os.mkdir('here')",
        "open('here', 'w') and None",
        "open('/etc/passwd').read()",
        "open('/dev/zero', 'rb').read(1).hex()",
        "open(f'/proc/{os.getppid()}/environ').read()",
        "os.listdir('/')",
        "os.readlink('/proc/self/exe')",
        "os.memfd_create('x')",
        "os.pipe()",
    ],
)
def test_nothing_but_computing_is_allowed(call):
    """No process, no socket, no signal, no file: each is refused, inside. All of them would give a value elsewhere."""
    (value,) = run("import os", [call]).values

    assert isinstance(value, Error), value
    assert value.name in REFUSED


def test_no_thread_no_shell_and_no_way_back():
    """These say no in their own ways."""
    calls = ["_thread.start_new_thread(print, ()) and None", "os.system('true')", "sys.modules['resource'].setrlimit(9, (-1, -1))"]

    thread, shell, limit = run("import _thread, os, sys", calls).values

    assert thread == Error("RuntimeError")
    assert shell not in (0, Error("TypeError"))
    assert limit in (Error("PermissionError"), Error("ValueError"), Error("OSError"))


def test_a_fork_bomb_makes_no_process():
    """The first fork fails."""
    ran = run(FORK_BOMB, ["bomb()", "n"])

    assert ran.values == (Error("PermissionError"), 0)


def test_no_file_is_changed(tmp_path):
    """Ours is still there with what was in it, by whatever name or call the code goes for it, raw system calls too."""
    ours = tmp_path / "ours"
    ours.write_text("kept")
    calls = [
        f"os.remove({str(ours)!r})",
        f"os.rename({str(ours)!r}, {str(ours) + '2'!r})",
        f"os.truncate({str(ours)!r}, 0)",
        f"os.open({str(ours)!r}, os.O_RDONLY | os.O_TRUNC)",
        f"os.link({str(ours)!r}, {str(ours) + '3'!r})",
        f"os.symlink('/etc', {str(ours) + '4'!r})",
        f"pathlib.Path({str(ours)!r}).write_text('gone')",
        f"ctypes.CDLL(None).unlink({str(ours)!r}.encode())",
        f"ctypes.CDLL(None).syscall(87, {str(ours)!r}.encode())",
    ]

    ran = run("import os, pathlib, sys\nctypes = sys.modules['ctypes']", calls)

    assert len(ran.values) == len(calls)

    assert ours.read_text() == "kept"
    assert [p.name for p in tmp_path.iterdir()] == ["ours"]


def test_it_sees_none_of_our_environment(monkeypatch):
    """No variable is handed on: a key among them would be one import away."""
    monkeypatch.setenv("OPENAI_API_KEY", "secret")

    (seen,) = run("import os", ["list(os.environ)"]).values

    assert set(seen) <= {"LC_CTYPE"}  # which Python sets by itself


def test_it_begins_in_an_empty_folder_that_goes():
    """Its own, and nothing is left of it."""
    (folder,) = run("import os", ["os.getcwd()"]).values

    assert folder not in ("/", str(Path.cwd()))
    assert not Path(folder).exists()


def test_a_flood_of_output_is_not_collected():
    """A gigabyte on the standard output goes nowhere; a gigabyte on the pipe of results is cut off and counts as none."""
    assert run("for _ in range(1000): print('x' * 1_000_000)", ["1"]).values == (1,)
    flood = "import os\nwhile True:\n    for fd in range(3, 32):\n        try: os.write(fd, b'x' * 1_000_000)\n        except OSError: pass"
    assert run(flood, ["1"], wall_s=5).values == ()


def test_a_result_without_end_is_no_result():
    """What would be too long to compare is not sent."""
    assert run("", ["'x' * 100_000"]).values == ()


FORGER = """
import os
for fd in range(3, 32):
    try:
        os.write(fd, b'{"results": [{"value": 1}, {"value": 1}], "failed": null}')
    except OSError:
        pass
os._exit(0)
"""


@pytest.mark.parametrize(
    "code",
    [
        FORGER,
        "import sys\nsys.exit(0)",
        "class Yes:\n    def __eq__(self, other): return True\nf = g = Yes",
        "import json\njson.dumps = lambda *a, **k: 1",
    ],
)
def test_claiming_to_have_passed_is_not_passing(code):
    """It is never told what a call should give, so the best that it can do is guess: here, 1 where 5 and 7 are right."""
    assert run(code + "\n", ["f()", "g()"]).values != (5, 7)


def test_the_process_ends_when_we_do():
    """Killed without a word, the caller takes the jail with it."""
    code = "from bestserve.proxy.quality import sandbox; sandbox.run('while True: pass', ['1'], wall_s=60)"
    caller = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while not (jails := children(caller.pid)) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.5)  # until it has asked to die with its parent
    caller.kill()
    caller.wait()
    while any(alive(pid) for pid in jails) and time.monotonic() < deadline:
        time.sleep(0.02)

    assert jails
    assert not any(alive(pid) for pid in jails)


def test_a_listener_of_ours_gets_no_visitor():
    """A port that is open on this machine is not reached, by C's own connect either."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        raw = "sys.modules['ctypes'].CDLL(None).socket(2, 1, 0)"
        values = run("import sys", [f"__import__('socket').create_connection(('127.0.0.1', {port}), 1)", raw]).values

        with pytest.raises(TimeoutError):
            server.accept()
    assert isinstance(values[0], Error)
    assert values[1] == -1


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
