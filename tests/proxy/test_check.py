"""What `bestserve check` finds out about a backend, from the replies of real ones."""

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from bestserve.proxy.check import Finding, ask_all
from bestserve.proxy.config import parse

pytestmark = pytest.mark.anyio

GOLDEN = Path(__file__).parent.parent / "golden"
NOT_HERE = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n"
VLLM = {"/health": "vllm/health", "/v1/models": "vllm/models", "/metrics": "vllm/metrics", "/load": "vllm/load_busy"}
SGLANG = {"/ready": "vllm/health", "/v1/models": "sglang/models", "/v1/loads?include=core": "sglang/v1_loads"}
OTHER = {"/v1/models": b'HTTP/1.1 200 OK\r\ncontent-length: 46\r\n\r\n{"data":[{"id":"smollm2","owned_by":"acme"}]}\n'}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def serving(pages: dict[str, str | bytes]) -> AsyncIterator[int]:
    """A server that says what a real one said."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                path = (await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode()
                writer.write(raw(pages[path]) if path in pages else NOT_HERE)
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


def raw(page: str | bytes) -> bytes:
    """A captured reply as bytes to send; one that was captured without its length ends with its body."""
    if isinstance(page, bytes):
        return page
    said = (GOLDEN / f"{page}.txt").read_bytes()
    head, _, body = said.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: (\d+)", head)
    body = body[: int(length[1])] if length else body
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(body), body)


async def found(pages: dict[str, str | bytes], **backend: str) -> Finding:
    async with serving(pages) as port:
        more = "".join(f", {name}: {value}" for name, value in backend.items())
        text = f"backends: [{{name: a, url: 'http://127.0.0.1:{port}', model: smollm2, profile: smollm2-135m-cpu{more}}}]"
        (finding,) = await ask_all(parse(text, {}, source="x.yaml"))
        return finding


@pytest.mark.parametrize(
    ("pages", "engine", "running", "load_from"),
    [(SGLANG, "sglang", 0, "/v1/loads?include=core"), (VLLM, "vllm", 8, "/metrics"), (OTHER, "openai", None, None)],
    ids=["sglang", "vllm", "openai"],
)
async def test_a_backend_that_is_what_the_config_says(pages, engine, running, load_from):
    """Ready, and its load from where its kind says it."""
    finding = await found(pages, engine=engine)
    assert finding.problems == []
    assert (finding.engine, finding.ready, finding.running, finding.load_from) == (engine, True, running, load_from)


@pytest.mark.parametrize(("pages", "engine"), [(VLLM, "vllm"), (OTHER, "openai")], ids=["vllm", "openai"])
async def test_another_kind_than_the_config_says_is_found_out(pages, engine):
    """It is named, with the one word that the config lacks, and nothing else is complained of."""
    finding = await found(pages)
    assert finding.engine == engine
    assert [problem.split("set ")[1] for problem in finding.problems] == [f"backends[].engine to {engine}"]


async def test_one_that_does_not_say_its_load_is_remarked():
    """Only our own requests are counted there."""
    finding = await found(OTHER, engine="openai")
    assert "only our own requests" in finding.remarks[-1]
