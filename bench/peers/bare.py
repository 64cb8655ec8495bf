"""A peer: bytes in, bytes out, one upstream connection for each client connection. The floor of a Python relay."""

import argparse
import asyncio
from typing import cast

import uvloop


class Behind(asyncio.Protocol):
    """The upstream half."""

    def __init__(self, front: "Front") -> None:
        self.front = front

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.front.connected(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self.front.transport.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.front.transport.close()

    def pause_writing(self) -> None:
        self.front.transport.pause_reading()

    def resume_writing(self) -> None:
        self.front.transport.resume_reading()


class Front(asyncio.Protocol):
    """The client's half; holds what comes before the upstream half is connected."""

    def __init__(self, host: str, port: int) -> None:
        self.behind: asyncio.Transport | None = None
        self._where = (host, port)
        self._held = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self._task = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            await asyncio.get_running_loop().create_connection(lambda: Behind(self), *self._where)
        except OSError:
            self.transport.close()

    def connected(self, transport: asyncio.Transport) -> None:
        if self.transport.is_closing():
            transport.close()
            return
        self.behind = transport
        if self._held:
            transport.write(self._held)

    def data_received(self, data: bytes) -> None:
        if self.behind is None:
            self._held += data
        else:
            self.behind.write(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if self.behind is not None:
            self.behind.close()

    def pause_writing(self) -> None:
        if self.behind is not None:
            self.behind.pause_reading()

    def resume_writing(self) -> None:
        if self.behind is not None:
            self.behind.resume_reading()


async def _serve(port: int, upstream: str) -> None:
    host, _, upstream_port = upstream.removeprefix("http://").rpartition(":")
    where = (host, int(upstream_port))
    server = await asyncio.get_running_loop().create_server(lambda: Front(*where), "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--upstream", required=True, help="http://host:port")
    args = parser.parse_args()
    uvloop.run(_serve(args.port, args.upstream))


if __name__ == "__main__":
    main()
