"""How an answer is written in HTTP/1.1: its head, and its body so that the client knows where it ends. Pure."""

from collections.abc import Sequence
from http import HTTPStatus

from starlette.types import Message

from .errors import OURS, error_body

Headers = Sequence[tuple[bytes, bytes]]


class Framing:
    """One answer, from its `http.response.start` on."""

    __slots__ = ("_how", "_left", "_start", "_to_head", "_version", "keeps")

    def __init__(self, start: Message, *, method: str, version: str, keeps: bool) -> None:
        self._start = start
        self._to_head = method == "HEAD"
        self._version = version
        self._how = ""  # length, chunks, close or none, once the head is written
        self._left = 0  # bytes that were announced and are still to be written
        self.keeps = keeps  # the connection serves another request after this answer

    def opened(self, defaults: Headers, body: bytes, more: bool) -> bytes:
        """The head, with the first piece of the body. Raises RuntimeError for a header that would be more than one."""
        lines, length = [status_line(self._start["status"])], None
        for header in (*defaults, *self._start["headers"]):
            name, value = header
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                self.keeps = self.keeps and b"close" not in value.lower()
                continue
            lines.append(b": ".join(header))
        self._measure(lines, length, None if more else len(body))
        if not self.keeps:
            lines.append(b"connection: close")
        head = b"\r\n".join(lines)
        if len(head) - len(head.translate(None, CONTROLS)) != 2 * len(lines) - 2:
            raise RuntimeError("a header of the answer has a control character in it")
        return b"%b\r\n\r\n%b" % (head, self.framed(body, more))

    def framed(self, body: bytes, more: bool) -> bytes:
        """A piece of the body. Raises RuntimeError when there is more or less than was announced."""
        if self._how == "chunks":
            piece = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            return piece if more else piece + b"0\r\n\r\n"
        if self._how == "none":
            return b""
        if self._how == "length":
            self._left -= len(body)
            if self._left < 0 or (self._left and not more):
                raise RuntimeError("the body is not as long as its content-length")
        return body

    def _measure(self, lines: list[bytes], length: int | None, whole: int | None) -> None:
        """Choose how the body's end is told. `length` was announced; `whole` is as long as all of it is, if that is known."""
        if self._to_head or self._start["status"] in (204, 304):
            self._how = "none"
        elif length is not None:
            self._how, self._left = "length", length
        elif whole is not None:
            self._how, self._left = "length", whole
            lines.append(b"content-length: %d" % whole)
        elif self._version == "1.1":
            self._how = "chunks"
            lines.append(b"transfer-encoding: chunked")
        else:
            self._how, self.keeps = "close", False


def status_line(status: int) -> bytes:
    """The first line of an answer."""
    return _STATUS.get(status) or b"HTTP/1.1 %d " % status


def refusal(status: int, defaults: Headers) -> bytes:
    """A whole answer that no application has made. Behind it the connection is closed."""
    said = _REFUSALS[status]
    headers = [*defaults, (b"content-type", b"application/json"), (b"content-length", b"%d" % len(said)), (b"connection", b"close")]
    return b"\r\n".join([status_line(status), *map(b": ".join, headers), b"", said])


CONTROLS = bytes(set(range(32)) - {9}) + b"\x7f"
_STATUS = {int(status): f"HTTP/1.1 {int(status)} {status.phrase}".encode() for status in HTTPStatus}
_REFUSALS = {
    400: error_body("This is no HTTP request that could be understood.", type_="invalid_request_error", code="bad_http"),
    431: error_body("The head of the request is too large.", type_="invalid_request_error", code="head_too_large"),
    500: error_body(OURS, type_="server_error", code="internal_error"),
}
