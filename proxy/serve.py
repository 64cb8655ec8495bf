"""Running the proxy: one process, or several that share a socket and a board.

SIGTERM and SIGINT stop listening and let requests in flight finish, for at most `listen.drain_s`. SIGHUP reads the config again; one
that cannot be used is refused with its reasons, and the old one goes on.
"""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
from collections.abc import Callable
from functools import partial

import uvicorn
from starlette.applications import Starlette

from .app import build
from .board import Board
from .config import BadConfig, Config
from .front import Front
from .serving import Serving

log = logging.getLogger("bestserve")


def run(config: Config, listening: socket.socket, reread: Callable[[], Config], board: Board | None = None, row: int = 0) -> None:
    """Serve in this process until a signal ends it."""
    logging.basicConfig(level=config.log.level.upper(), format="%(asctime)s %(levelname)s %(message)s")
    app = build(config, board=board, row=row)
    gc.freeze()  # what was made until now stays; what a request makes is mostly gone by its end, so young garbage is looked at less often
    gc.set_threshold(20_000, 20, 50)
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.get_loop().add_signal_handler(signal.SIGHUP, lambda: reload(app.state.serving, reread))
        runner.run(serve(server_of(app, config), listening))


async def serve(server: uvicorn.Server, listening: socket.socket) -> None:
    """Serve on a socket in the running loop until a signal, or `should_exit`, ends it."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, partial(_end, server))  # uvicorn takes them while it serves, and raises them again once it has drained
    await server.serve(sockets=[listening])


def _end(server: uvicorn.Server, number: int, frame: object) -> None:
    """A signal before the server listens to signals, or after it was served: an orderly end, and not an error."""
    server.should_exit = True


def server_of(app: Starlette, config: Config) -> uvicorn.Server:
    """uvicorn, set for relaying: no access log, nothing added to answers."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Front,
            ws="none",
            lifespan="on",
            access_log=False,
            log_level=config.log.level,
            log_config=None,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=75,
            timeout_graceful_shutdown=max(1, round(config.listen.drain_s)),
        )
    )


def reload(here: Serving, reread: Callable[[], Config]) -> bool:
    """Take the config up again. Address, port and workers stay as they were started."""
    try:
        config = reread()
    except BadConfig as error:
        log.error("the config was not taken up:\n%s", error)  # noqa: TRY400  a trace would bury the reasons
        return False
    here.adopt(config)
    here.memory.adopt(config.replay)
    log.info("the config was taken up again: %s", ", ".join(b.name for b in config.backends))
    return True


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one."""
    with contextlib.suppress(ImportError):
        import uvloop

        return uvloop.new_event_loop
    return None
