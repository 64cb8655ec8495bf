"""What others have been broken by, tried against us. The numbers are those of the list that it was made from."""

import asyncio
import logging
import random
import string
from dataclasses import replace
from hashlib import sha256

import orjson
import pytest

from bestserve.policy.record import to_bytes
from bestserve.proxy import endpoints
from bestserve.proxy.config import parse
from bestserve.proxy.dialects.openai import MOST_CHOICES, MOST_TOKENS, REFUSED_FIELDS
from bestserve.proxy.segments import files, lines

from .world import Client, Got, World, chat, completion, event, hang_up, piece, refuse, stream, world

pytestmark = pytest.mark.anyio

TEAM, BOSS = "sk-team-canary-7f3a", "sk-boss-canary-91bc"
KEYS = f"""keys:
  - {{name: team-a, sha256: {sha256(TEAM.encode()).hexdigest()}, tier: default, requests_per_minute: 6000}}
  - {{name: batch, sha256: {sha256(b"sk-batch").hexdigest()}, tier: flex}}
  - {{name: vip, sha256: {sha256(b"sk-vip").hexdigest()}, tier: priority}}
  - {{name: boss, sha256: {sha256(BOSS.encode()).hexdigest()}, admin: true}}
"""


def key(token: str) -> dict[str, str]:
    return {"authorization": f"Bearer {token}"}


async def get(here: World, path: str, **headers: str) -> tuple[Client, bytes]:
    client = await (await here.ask(b"", path, "GET", **headers)).head()
    return client, await client.body()


async def raw(here: World, data: bytes) -> tuple[int, bytes]:
    """Send these bytes and nothing else; status and all that came back, 0 and b"" when the connection was closed without a word."""
    reader, writer = await asyncio.open_connection("127.0.0.1", here.port)
    try:
        async with asyncio.timeout(5):
            writer.write(data)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            return int(head.split(b" ")[1]), head + await reader.read(100_000)
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0, b""
    finally:
        writer.transport.abort()


def closing(method: str, path: bytes, *headers: bytes) -> bytes:
    """A request without a body, after which the server closes the connection."""
    return b"\r\n".join((method.encode() + b" " + path + b" HTTP/1.1", b"connection: close", *headers, b"", b""))


# --- S2, S4: who calls ---


@pytest.mark.parametrize(("method", "path"), [("POST", "/v1/chat/completions"), ("GET", "/v1/models"), ("GET", "/admin/backends")])
async def test_whatever_is_wrong_with_a_key_is_a_401(tmp_path, method, path):
    """Quotes, NUL, a megabyte, other alphabets: never a crash, never anonymous."""
    values = [
        b"",
        b"Bearer",
        b"Bearer ",
        b"Bearer sk-wrong",
        b"Bearer ' OR 1=1 --",
        b'Bearer "' + TEAM.encode() + b'"',
        b"Basic " + TEAM.encode(),
        TEAM.encode(),
        b"Bearer " + TEAM.encode()[:-1],
        b"Bearer " + TEAM.encode() + b"x",
        b"Bearer " + TEAM.upper().encode(),
        b"Bearer " + sha256(TEAM.encode()).hexdigest().encode(),
        b"Bearer " + "ключ".encode(),
        b"Bearer \xff\xfe\x80",
        b"Bearer " + b"x" * 10_000,
        b"Bearer null",
        b"Bearer team-a",
        b"Bearer {{7*7}}${x}%s%n",
    ]

    async with world(tmp_path, "a", more=KEYS) as here:
        for value in values:
            status, body = await raw(here, closing(method, path.encode(), b"host: h", b"authorization: " + value))
            assert (status, b"invalid_api_key" in body) == (401, True), value
        status, body = await raw(here, closing(method, path.encode(), b"host: h"))
        assert (status, b"invalid_api_key" in body) == (401, True)
        for value in (b"Bearer sk\x00", b"Bearer " + b"x" * 1_000_000):
            status, _ = await raw(here, closing(method, path.encode(), b"host: h", b"authorization: " + value))
            assert status in (0, 400, 401, 431)

        assert not here.endings
        assert not here.backends["a"].got


async def test_a_stranger_learns_nothing_by_what_else_is_wrong(tmp_path):
    """The key comes first: neither the body nor the model is looked at before it."""
    async with world(tmp_path, "a", more=KEYS) as here:
        for body in (b"", b"{", b"x" * 1000, orjson.dumps(chat()), orjson.dumps({**chat(), "model": "gpt-4o"})):
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"):
                client = await here.ask(body, path, authorization="Bearer sk-wrong")
                assert (await client.answer())["error"]["code"] == "invalid_api_key"
                assert client.status == 401
        for path in ("/v1/models", "/v1/models/auto", "/v1/models/gpt-4o"):
            assert (await get(here, path))[0].status == 401


async def test_a_key_opens(tmp_path):
    """What is its own to open, and says what is left of it."""
    async with world(tmp_path, "a", more=KEYS) as here:
        client = await here.ask(chat(), **key(TEAM))
        await client.answer()

        assert client.status == 200
        assert client.headers["x-ratelimit-limit-requests"] == "6000"
        assert int(client.headers["x-ratelimit-remaining-requests"]) == 5999


async def test_a_quota_is_kept(tmp_path):
    """Whatever the requests are, and told in the way that SDKs heed."""
    more = f"keys: [{{name: t, sha256: {sha256(b'k').hexdigest()}, requests_per_minute: 2}}]\n"

    async with world(tmp_path, "a", more=more) as here:
        statuses = []
        for body in (b"{", chat(), chat()):
            client = await (await here.ask(body, **key("k"))).head()
            statuses.append(client.status)

        assert statuses == [400, 200, 429]
        assert int(client.headers["retry-after"]) > 1
        assert orjson.loads(await client.body())["error"]["type"] == "rate_limit_error"


# --- S3, S6: what only an admin may ---


def admin_paths(here: World) -> list[str]:
    return [route.path for route in here.server.config.app.routes if route.path.startswith("/admin")]


async def test_an_admin_route_opens_to_an_admin_alone(tmp_path):
    """Every one of them: not without a key, not with a wrong one, not with a user's."""
    async with world(tmp_path, "a", more=KEYS) as here:
        assert {"/admin/backends", "/admin/records"} <= set(admin_paths(here))
        for path in admin_paths(here):
            for headers, status in (({}, 401), (key("sk-wrong"), 401), (key(TEAM), 403), (key("sk-vip"), 403), (key(BOSS), 200)):
                client, _ = await get(here, path, **headers)
                assert client.status == status, (path, headers)


async def test_an_open_proxy_has_no_admin(tmp_path):
    """Where everybody may call, nobody may administer."""
    async with world(tmp_path, "a") as here:
        for path in admin_paths(here):
            for headers in ({}, key("x"), key(BOSS)):
                assert (await get(here, path, **headers))[0].status == 403


@pytest.mark.parametrize("token", [None, TEAM])
async def test_no_spelling_of_a_path_and_no_host_opens_an_admin_route(tmp_path, token):
    """What is asked for is the path, once decoded, and nothing else of the request."""
    auth = [b"authorization: Bearer " + token.encode()] if token else []
    paths = [
        b"/admin/backends",
        b"//admin/backends",
        b"///admin//backends",
        b"/%61dmin/backends",
        b"/%2561dmin/backends",
        b"/admin%2fbackends",
        b"/v1/%2e%2e/admin/backends",
        b"/v1/../admin/backends",
        b"/v1/models/../../admin/backends",
        b"/health/..;/admin/backends",
        b"/admin/./backends",
        b"/admin/backends/",
        b"/admin/backends?x=/v1/models",
        b"/admin/backends#/health",
        b"/admin\\backends",
        b"/ADMIN/backends",
        b"http://h/admin/backends",
        b"/health%00/admin/backends",
        b"/health?/../admin/backends",
    ]
    hosts = [b"h", b"h/#@x", b"/admin", b"h/admin/backends?", b"h?x", b"h#", b"[::1", b"h:99999", b"", b"a b", b"\xff"]

    async with world(tmp_path, "a", more=KEYS) as here:
        for path in paths:
            for host in hosts if path == paths[0] else hosts[:2]:
                status, body = await raw(here, closing("GET", path, b"host: " + host, *auth))
                assert status in (0, 400, 401, 403, 404) or body.endswith(b'{"status":"ok"}'), (path, host)
                assert b"in_flight" not in body
        for host in hosts:
            status, body = await raw(here, closing("GET", b"/health", b"host: " + host))
            assert status in (200, 400)
            status, body = await raw(here, closing("GET", b"/nothing", b"host: " + host))
            assert status in (400, 404)
        for header in (b"x-original-url", b"x-rewrite-url", b"x-forwarded-path", b"x-forwarded-prefix", b"x-http-method-override"):
            status, body = await raw(here, closing("GET", b"/health", b"host: h", header + b": /admin/backends"))
            assert body.endswith(b'{"status":"ok"}')


async def test_a_request_in_two_framings_is_refused(tmp_path):
    """Nobody hides a request in another's body."""
    inner = b"GET /admin/backends HTTP/1.1\r\nhost: h\r\n\r\n"

    async with world(tmp_path, "a", more=KEYS) as here:
        for framing in (
            b"content-length: 4\r\ntransfer-encoding: chunked",
            b"content-length: 4\r\ncontent-length: 100",
            b"transfer-encoding: chunked, identity",
            b"content-length: +4",
        ):
            status, body = await raw(here, b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\n" + framing + b"\r\n\r\n0\r\n\r\n" + inner)
            assert status in (0, 400, 401), framing
            assert b"in_flight" not in body


# --- S8, S9: what goes upstream ---


async def test_a_client_cannot_send_us_elsewhere(tmp_path):
    """Addresses, credentials and code in a body are refused, by name, on every endpoint."""
    async with world(tmp_path, "a", per_backend=", capabilities: [embeddings, responses]") as here:
        for name in REFUSED_FIELDS:
            for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings", "/v1/responses"):
                client = await here.ask({**chat(), "prompt": "x", "input": "x", name: "http://127.0.0.1:1/"}, path)
                assert (await client.answer())["error"]["param"] == name
                assert client.status == 400

        assert not here.backends["a"].got


async def test_a_redirect_is_not_followed(tmp_path):
    """A backend that sends us elsewhere does not answer; another one does."""

    async def redirect(got: Got, writer: asyncio.StreamWriter) -> None:
        head = b"HTTP/1.1 307 Temporary Redirect\r\nlocation: http://127.0.0.1:%d/v1/chat/completions\r\ncontent-length: 0\r\n\r\n"
        writer.write(head % here.backends["b"].port)

    async with world(tmp_path) as here:
        here.backends["a"].script = redirect
        client = await here.ask({**chat(), "model": "a"})
        await client.answer()
        assert client.status == 503
        assert not here.backends["b"].got

        client = await here.ask(chat())
        assert (await client.answer())["model"] == "m-b"
        assert [got.json()["model"] for got in here.backends["b"].got] == ["m-b"]


async def test_no_header_of_a_client_goes_upstream(tmp_path):
    """Neither his key nor his cookies, nor where he says that he comes from."""
    theirs = {
        **key(TEAM),
        "cookie": "session=canary",
        "x-forwarded-for": "10.0.0.1",
        "x-api-key": "canary",
        "openai-organization": "canary",
        "x-request-id": "canary",
        "te": "trailers",
        "connection": "x-evil",
        "x-evil": "1",
        "user-agent": "canary",
        "accept-encoding": "gzip",
    }

    async with world(tmp_path, "a", more=KEYS, per_backend=", api_key: sk-upstream") as here:
        await (await here.ask(chat(), **theirs)).answer()

        got = here.backends["a"].got[0]
        assert got.headers == {
            "host": f"127.0.0.1:{here.backends['a'].port}",
            "accept": "*/*",
            "user-agent": "bestserve",
            "authorization": "Bearer sk-upstream",
            "content-type": "application/json",
            "content-length": str(len(got.body)),
        }


async def test_no_header_of_a_backend_goes_to_a_client(tmp_path):
    """But for what kind of body it is."""

    async def script(got: Got, writer: asyncio.StreamWriter) -> None:
        said = orjson.dumps(completion("x"))
        head = (
            b"HTTP/1.1 200 OK\r\nset-cookie: a=b\r\nserver: evil\r\nx-bestserve-backend: evil\r\nx-request-id: evil\r\nlocation: /evil\r\n"
        )
        writer.write(head + b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(said) + said)

    async with world(tmp_path, "a") as here:
        here.backends["a"].script = script
        client = await here.ask(chat())
        await client.answer()

        assert "evil" not in client.headers.values()
        assert not {"set-cookie", "location"} & set(client.headers)


async def test_only_what_we_serve_is_forwarded(tmp_path):
    """None of a backend's own controls can be reached through us."""
    engine = "generate flush_cache get_load server_info get_server_info abort_request update_weights_from_disk start_profile ping encode"
    more = "v1/loads v1/tokenize v1/rerank v1/files v1/batches set_internal_state open_session classify release_memory_occupation"

    async with world(tmp_path, "a") as here:
        for path in (engine + " " + more).split():
            for method in ("GET", "POST"):
                client = await here.ask(orjson.dumps(chat()), "/" + path, method)
                await client.answer()
                assert client.status == 404

        assert not here.backends["a"].got


# --- S10: what is kept quiet ---

CANARY = "canary-prompt-5d1f"


async def test_keys_and_prompts_are_nowhere(tmp_path, caplog, capfd, monkeypatch):
    """Not in a log, a record, a segment, a metric or an error, also when things go wrong in every way that there is."""
    caplog.set_level(logging.DEBUG)
    said: list[bytes] = []
    ask = {**chat(CANARY), "user": CANARY, "metadata": {"x": CANARY}, "tools": [{"type": "function", "function": {"name": CANARY}}]}
    wrong = {"type": "int_parsing", "loc": ("body", "x"), "msg": "wrong", "input": CANARY}
    echo = f'1 validation error:\n  {wrong}\n\n  File "a.py", line 1'

    async def one(body: dict | bytes, **headers: str) -> None:
        client = await here.ask(body, **{**key(TEAM), "x-session-id": CANARY, "cookie": CANARY, **headers})
        head = await client.head()
        said.extend([repr(head.headers).encode(), await client.body()])

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("on purpose")

    async with world(tmp_path, more=KEYS + "replay: {dir: replay}") as here:
        scripts = [
            refuse(400, {"object": "error", "message": echo, "code": 400}),
            refuse(422, {"detail": [{"type": "x", "loc": ["body", "x"], "msg": "wrong", "input": CANARY}]}),
            refuse(500, {"message": CANARY}),
            hang_up,
            stream("one", then=hang_up),
        ]
        for script in scripts:
            for backend in here.backends.values():
                backend.script = script
            for streamed in (True, False):
                await one({**ask, "stream": streamed})
        here.serving.adopt(here.config)  # circuits aside, as new
        await one({**ask, "model": "gpt-4o"})
        await one({**ask, "max_tokens": "x"})
        await one({**ask, "messages": [CANARY]})
        await one(orjson.dumps(ask)[:-1])
        await one({**ask, "n": CANARY})
        await one(chat(CANARY * 10_000))
        await one(ask, authorization=f"Bearer {BOSS}x")
        await one(ask, x_slo_ttft_ms="x")
        with monkeypatch.context() as patch:
            patch.setattr(endpoints.openai, "parse", breaks)
            await one(ask)
        with monkeypatch.context() as patch:
            patch.setattr(type(here.serving), "view", breaks)
            await one(ask)
        here.serving.deciders.chooser = replace(here.serving.chooser, policy=breaks)
        await one(ask)
        await (await here.ask({"decision": CANARY, "score": CANARY, "comment": CANARY}, "/v1/feedback", **key(TEAM))).answer()
        await here.settled()
        _, metrics = await get(here, "/metrics")
        _, records = await get(here, "/admin/records", **key(BOSS))
        _, backends = await get(here, "/admin/backends", **key(BOSS))

    assert len(here.serving.recent) > 10
    written = b"".join(line for path in files([tmp_path / "replay"]) for line in lines(path))
    assert written.count(b"\n") == len(here.serving.recent)
    assert records == b"".join(map(to_bytes, here.serving.recent))
    out, err = capfd.readouterr()
    logged = "\n".join(logging.Formatter().format(record) for record in caplog.records)
    assert "failed before it was decided" in logged
    everything = b"\n".join([*said, written, metrics, records, backends, logged.encode(), out.encode(), err.encode()])
    for secret in (CANARY, TEAM, BOSS, sha256(TEAM.encode()).hexdigest()):
        assert secret.encode() not in everything


async def test_an_error_says_nothing_of_our_inside(tmp_path, monkeypatch):
    """What fails here is logged, and told as failed."""

    def breaks(*_: object) -> None:
        raise ZeroDivisionError("canary in /srv/x.py")

    async with world(tmp_path, "a") as here:
        monkeypatch.setattr(type(here.serving), "ask_of", breaks)
        monkeypatch.setattr(type(here.serving), "model_names", breaks)
        client = await here.ask(chat())
        assert (await client.answer())["error"]["message"] == endpoints.OURS
        assert (client.status, "x-request-id" in client.headers) == (500, True)

        client, body = await get(here, "/v1/models")
        assert (client.status, orjson.loads(body)["error"]["message"]) == (500, endpoints.OURS)


# --- S11, S14: what a client may say of itself ---


@pytest.mark.parametrize(
    ("token", "asked", "served"),
    [
        (TEAM, None, "default"),
        (TEAM, "auto", "default"),
        (TEAM, "flex", "flex"),
        (TEAM, "default", "default"),
        (TEAM, "priority", "default"),
        ("sk-batch", None, "flex"),
        ("sk-batch", "priority", "flex"),
        ("sk-batch", "default", "flex"),
        ("sk-vip", None, "priority"),
        ("sk-vip", "flex", "flex"),
        ("sk-vip", "PRIORITY", "priority"),
    ],
)
async def test_nobody_is_served_above_his_keys_class(tmp_path, token, asked, served):
    """Below it, as he likes; and no other field raises him."""
    async with world(tmp_path, "a", more=KEYS) as here:
        fields = {"priority": 100, **({} if asked is None else {"service_tier": asked})}
        await (await here.ask(chat(**fields), x_priority="100", **key(token))).answer()

        assert here.serving.recent[-1].ask.tier == served
        assert "priority" not in here.backends["a"].got[0].json()


async def test_a_request_id_is_taken_only_when_it_is_harmless(tmp_path):
    """Else it is ours; either way it is told, and two requests may have the same."""
    harmful = ["a b", "a\tb", 'a"b', "a'b", "<script>", "a%0d%0ax-evil: 1", "é", "x" * 129, "", "a;b", "a/b", "../x", "{{x}}", "a\\b"]

    async with world(tmp_path, "a") as here:
        for given in harmful:
            client = await here.ask(chat(), x_request_id=given)
            await client.answer()
            assert client.headers["x-request-id"] not in (given, given.encode().decode("latin-1"))
            assert "x-evil" not in client.headers
        for given in ("x" * 128, "7b1e-A_.:z", "7b1e-A_.:z"):
            client = await here.ask(chat(), x_request_id=given)
            await client.answer()
            assert client.headers["x-request-id"] == given

        same = [record for record in here.serving.recent if record.request_id == "7b1e-A_.:z"]
        assert len({record.decision.id for record in same}) == 2


async def test_a_bent_header_line_is_no_second_header(tmp_path):
    """Folded lines and lone line ends are refused, or are no header of ours."""
    async with world(tmp_path, "a") as here:
        for bend in (
            b"x-request-id: a\r\n b",
            b"x-request-id: a\rx-evil: 1",
            b"x-request-id: a\nx-evil: 1",
            b"x-request-id : a",
            b"x request: a",
        ):
            status, body = await raw(here, closing("GET", b"/v1/models/nothing", b"host: h", bend))
            assert status in (0, 400, 404)
            assert b"x-evil" not in body


# --- S12: what is counted ---


def words(dice: random.Random) -> str:
    return "".join(dice.choices(string.ascii_letters + string.digits + "-._~", k=12))


async def test_two_thousand_strangers_leave_no_series(tmp_path):
    """Paths, models, users, sessions, tasks and tiers come from anywhere; the metrics have as many series as before."""
    dice = random.Random(12)

    def request(i: int) -> bytes:
        word = words(dice)
        if i % 5 == 0:
            return f"GET /{word}/{word} HTTP/1.1\r\nhost: {word}\r\n\r\n".encode()
        body = chat(user=word, metadata={"x": word}, service_tier=word)
        hint = ""
        if i % 5 == 1:
            body["model"] = word
        elif i % 5 == 2:
            hint = f"x-bestserve-task: {word}\r\n"
        elif i % 5 == 3:
            body["max_tokens"] = word
        sent = orjson.dumps(body)
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {word}\r\nx-session-id: {word}\r\nx-request-id: {word}\r\nuser-agent: {word}\r\n"
        )
        return head.encode() + hint.encode() + b"content-length: %d\r\n\r\n" % len(sent) + sent

    async def several(n: int) -> None:
        client = Client(*await asyncio.open_connection("127.0.0.1", here.port))
        here.clients.append(client)
        for i in range(n):
            client.writer.write(request(i))
            await (await client.head()).body()
            assert client.status == (404, 404, 400, 400, 200)[i % 5]

    def series() -> set[bytes]:
        return {line.rsplit(b" ", 1)[0] for line in here.serving.exposition().split(b"\n")}

    async with world(tmp_path, "a") as here:
        await several(10)
        before = series()
        await asyncio.gather(*(several(100) for _ in range(20)))

        assert series() == before
        assert len(here.serving.recent) <= 1000


# --- S13: what is too much ---


def small(here: World, folder: object) -> None:
    """Serve on with a limit of a thousand bytes a body."""
    row = f"{{name: a, url: 'http://127.0.0.1:{here.backends['a'].port}', model: m-a, profile: fast.toml}}"
    text = f"backends: [{row}]\nlisten: {{max_body_mb: 0.001}}\nprobe: {{interval_ms: 20}}\n"
    here.serving.adopt(parse(text, {}, source=f"{folder}/bestserve.yaml"))


async def test_a_body_that_is_too_large_is_not_taken(tmp_path):
    """Whether it says its size or comes in chunks; at the limit it is."""
    async with world(tmp_path, "a") as here:
        small(here, tmp_path)
        start = b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\n"

        status, body = await raw(here, start + b"content-length: 1001\r\n\r\n")
        assert (status, b"request_too_large" in body) == (413, True)
        status, body = await raw(here, start + b"content-length: 1001\r\n\r\n" + b"x" * 1001)
        assert status == 413
        status, body = await raw(here, start + b"transfer-encoding: chunked\r\n\r\n" + piece(b"x" * 400) * 3)
        assert (status, b"request_too_large" in body) == (413, True)
        status, body = await raw(here, start + b"transfer-encoding: chunked\r\n\r\n" + piece(b"x" * 1001) + b"0\r\n\r\n")
        assert status == 413
        sent = orjson.dumps(chat("")).ljust(1000)
        status, body = await raw(here, start + b"content-length: 1000\r\n\r\n" + sent)
        assert status == 200
        status, body = await raw(here, start + b"transfer-encoding: chunked\r\n\r\n" + piece(sent[:400]) + piece(sent[400:]) + b"0\r\n\r\n")
        assert status == 200


async def test_a_compressed_body_is_not_taken(tmp_path):
    """Ten kilobytes may be ten gigabytes."""
    async with world(tmp_path, "a") as here:
        for coding in ("gzip", "deflate", "br", "zstd", "GZIP", "gzip, identity"):
            client = await here.ask(b"\x1f\x8b\x08\x00", content_encoding=coding)
            assert (await client.answer())["error"]["code"] == "unsupported_content_encoding"
            assert client.status == 400
        client = await here.ask(chat(), content_encoding="identity")
        await client.answer()

        assert client.status == 200


async def test_what_is_too_deep_or_too_many_is_refused(tmp_path):
    """A body of nothing but brackets, thousands of choices, millions of tokens."""
    deep = b"[" * 100_000 + b"]" * 100_000

    async with world(tmp_path, "a") as here:
        for body in (
            deep,
            b'{"model":"auto","messages":[{"role":"user","content":' + deep + b"}]}",
            chat(n=MOST_CHOICES + 1),
            chat(n=10**18),
            chat(max_tokens=MOST_TOKENS + 1),
            chat(max_completion_tokens=10**18),
            chat(n=-1),
        ):
            client = await here.ask(body)
            assert (await client.answer())["error"]["type"] == "invalid_request_error"
            assert client.status == 400

        assert not here.backends["a"].got


async def test_a_slow_sender_keeps_nobody_waiting(tmp_path):
    """A hundred of them hold their bodies back; others are answered."""
    async with world(tmp_path, "a") as here:
        slow = [await asyncio.open_connection("127.0.0.1", here.port) for _ in range(100)]
        for _, writer in slow:
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n{")
            await writer.drain()
        client = await here.ask(chat())
        async with asyncio.timeout(1):
            await client.answer()

        assert client.status == 200
        assert here.serving.fleet.in_flight() == {"a": 0}
        for _, writer in slow:
            writer.transport.abort()


async def test_a_sender_who_is_too_slow_is_let_go(tmp_path, monkeypatch):
    """After a time that is enough for anybody."""
    monkeypatch.setattr(endpoints, "BODY_S", 0.05)

    async with world(tmp_path, "a") as here:
        status, body = await raw(here, b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 9\r\n\r\n{")

        assert (status, b"request_timeout" in body) == (400, True)


async def test_a_sender_who_leaves_leaves_nothing(tmp_path, caplog):
    """No trace, no entry, no complaint."""
    async with world(tmp_path, "a") as here:
        for sent in (b"", b"{", b"POST"):
            _, writer = await asyncio.open_connection("127.0.0.1", here.port)
            writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: h\r\ncontent-length: 100\r\n\r\n" + sent)
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.transport.abort()
        await (await here.ask(chat())).answer()

        assert here.endings == [("a", "done")]
        assert not caplog.records


async def test_a_backend_that_floods_is_stopped(tmp_path):
    """An event without end is no memory of ours without end."""

    async def endless(got: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n" + piece(event("x")))
        while True:
            writer.write(piece(b"data: " + b"x" * 1_000_000))
            await writer.drain()

    async with world(tmp_path, "a") as here:
        here.backends["a"].script = endless
        client = await (await here.ask(chat(stream=True))).head()
        body = await client.body()

        assert b'data: {"error":' in body
        await here.settled()
        assert here.endings == [("a", "broke")]
