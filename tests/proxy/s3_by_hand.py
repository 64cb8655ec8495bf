"""As much of S3 as an upload asks for: put an object, list a prefix. Over HTTP, in a thread."""

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape


class Bucket:
    """What is in it, and whether it answers."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts = 0
        self.is_down = False


@contextlib.contextmanager
def s3(name: str = "bucket") -> Iterator[tuple[Bucket, str]]:
    """A bucket and its endpoint."""
    bucket = Bucket()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            bucket.puts += 1
            if not bucket.is_down:
                bucket.objects[urlsplit(self.path).path.removeprefix(f"/{name}/")] = body
            self.say(b"", {"etag": '"1"'})

        def do_GET(self) -> None:
            prefix = parse_qs(urlsplit(self.path).query).get("prefix", [""])[0]
            rows = "".join(
                f"<Contents><Key>{escape(key)}</Key><LastModified>2026-11-22T08:00:00.000Z</LastModified><ETag>1</ETag>"
                f"<Size>{len(body)}</Size></Contents>"
                for key, body in sorted(bucket.objects.items())
                if key.startswith(prefix)
            )
            self.say(f"<ListBucketResult><Name>{name}</Name><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())

        def say(self, body: bytes, headers: dict[str, str] | None = None) -> None:
            self.send_response(403 if bucket.is_down else 200)
            for key, value in {"content-length": str(len(body)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield bucket, f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
