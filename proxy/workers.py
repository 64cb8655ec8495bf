"""Several serving processes on one socket, and the one that looks after them.

The parent binds the socket, makes the board and forks; it serves nothing itself. A child that dies is replaced, not more often than
once in RESTART_S. Signals go to all children: SIGTERM and SIGINT end them, SIGHUP makes them read the config again.
"""

import contextlib
import logging
import multiprocessing
import multiprocessing.connection
import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.process import BaseProcess

from .board import Board
from .config import BadConfig, Config

log = logging.getLogger("bestserve")

RESTART_S = 1.0
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@contextlib.contextmanager
def shared_metrics() -> Iterator[str]:
    """A folder in which the processes' metrics are summed. To be entered before anything of prometheus_client is imported."""
    folder = tempfile.mkdtemp(prefix="bestserve-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # noqa: TID251  said to a library, not read from an operator
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def supervise(config: Config, listening: socket.socket, reread: Callable[[], Config]) -> int:
    """Run `config.listen.workers` processes until a signal ends them. Returns the exit code."""
    board = Board(config.listen.workers)
    keeper = _Keeper(config, listening, reread, board)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, keeper.stop)
    signal.signal(signal.SIGHUP, keeper.pass_on)
    keeper.keep()
    return 0


class _Keeper:
    def __init__(self, config: Config, listening: socket.socket, reread: Callable[[], Config], board: Board) -> None:
        self._config, self._listening, self._reread, self._board = config, listening, reread, board
        self._fork = multiprocessing.get_context("fork")
        self._stopping = False
        self._children: dict[int, BaseProcess] = {row: self._start(row) for row in range(config.listen.workers)}

    def keep(self) -> None:
        """Wait for the children; replace those that die while nobody asked them to."""
        while self._children:
            multiprocessing.connection.wait([child.sentinel for child in self._children.values()], timeout=RESTART_S)
            for row, child in list(self._children.items()):
                if not child.is_alive():
                    self._bury(row, child)

    def stop(self, number: int, frame: object) -> None:
        self._stopping = True
        self._tell(signal.SIGTERM)

    def pass_on(self, number: int, frame: object) -> None:
        self._tell(number)

    def _tell(self, number: int) -> None:
        for child in self._children.values():
            if child.pid is not None and child.is_alive():
                os.kill(child.pid, number)

    def _bury(self, row: int, child: BaseProcess) -> None:
        from prometheus_client.multiprocess import mark_process_dead

        child.join()
        mark_process_dead(child.pid)  # type: ignore[no-untyped-call]
        self._board.clear(row)
        if not self._stopping:
            log.error("worker %d died with exit code %s; it is replaced", row, child.exitcode)
            time.sleep(RESTART_S)
        if self._stopping:
            del self._children[row]
        else:
            self._children[row] = self._start(row)

    def _start(self, row: int) -> BaseProcess:
        child = self._fork.Process(target=_child, args=(self._config, self._listening, self._reread, self._board, row))
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # what arrives while we fork waits until each side knows what to do with it
        child.start()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return child


def _child(config: Config, listening: socket.socket, reread: Callable[[], Config], board: Board, row: int) -> None:
    from .serve import run

    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends Ctrl-C to us all; the parent tells us
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until the loop takes it
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    with contextlib.suppress(BadConfig):  # one that replaces another serves by the config of now; the first, by that of the parent
        config = reread()
    run(config, listening, reread, board, row)
