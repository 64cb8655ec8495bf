"""Who may call, at which service tier, and how often. A key is known by the SHA-256 of the whole token and by nothing shorter.

With no keys configured the proxy is open: everybody is `anonymous`, may ask for any tier, and is no admin. With keys, whatever is
wrong with a caller's `Authorization` is Unauthorized; nobody falls back to anonymous.
"""

import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from .config import TIERS, Key
from .errors import OverQuota, Unauthorized

MAX_TOKEN_BYTES = 4096  # longer ones are refused unread
_DUST = 1e-6  # of a request, lost to rounding


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may call."""

    name: str
    tier: str  # served at, when the request asks for none
    ceiling: str  # the highest tier that the request may ask for
    admin: bool = False


ANONYMOUS = Caller("anonymous", tier="default", ceiling="priority")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What is left of a quota after a request was let through."""

    limit: int  # requests a minute
    remaining: int  # requests that would be let through now
    reset_s: float  # seconds until all of them are back


class Quota:
    """Requests a minute, as a bucket that starts full and fills evenly."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._left = float(limit)
        self._at: float | None = None

    def take(self, now: float) -> Allowed:
        """Let one request through, or raise OverQuota. `now` is seconds of a monotonic clock."""
        self._fill(now)
        if self._left < 1 - _DUST:
            retry_after_s = (1 - self._left) / self._per_s
            raise OverQuota(f"this key may make {self.limit} requests a minute", retry_after_s=retry_after_s, limit=self.limit)
        self._left -= 1
        return Allowed(self.limit, int(self._left), (self.limit - self._left) / self._per_s)

    @property
    def _per_s(self) -> float:
        return self.limit / 60

    def _fill(self, now: float) -> None:
        last = now if self._at is None else self._at
        self._at = max(now, last)
        self._left = min(self._left + (self._at - last) * self._per_s, self.limit)


class Keys:
    """The configured keys, and what each has left to ask."""

    def __init__(self, keys: Sequence[Key]) -> None:
        self._callers = [(bytes.fromhex(key.sha256), Caller(key.name, key.tier, key.tier, key.admin)) for key in keys]
        self._quotas = {key.name: Quota(key.requests_per_minute) for key in keys if key.requests_per_minute is not None}
        self._met: dict[bytes, Caller] = {}  # by the hash of the whole token; only known keys enter, so it stays small

    @property
    def open(self) -> bool:
        """Whether everybody may call."""
        return not self._callers

    def check(self, authorization: bytes | None) -> Caller:
        """Who sends this `Authorization` header. Raises Unauthorized."""
        if self.open:
            return ANONYMOUS
        digest = sha256(_token(authorization)).digest()
        caller = self._met.get(digest) or self._find(digest)
        self._met[digest] = caller
        return caller

    def take(self, caller: Caller, now: float) -> Allowed | None:
        """Count one request of this caller: what is left, or None where nothing is counted. Raises OverQuota."""
        quota = self._quotas.get(caller.name)
        return None if quota is None else quota.take(now)

    def _find(self, digest: bytes) -> Caller:
        """Compares with every key, whichever it is, so that the time taken does not tell."""
        same = [caller for known, caller in self._callers if hmac.compare_digest(known, digest)]
        if not same:
            raise Unauthorized("this API key is not known")
        return same[0]


def _token(authorization: bytes | None) -> bytes:
    if not authorization:
        raise Unauthorized("an API key is needed: send the header `Authorization: Bearer KEY`")
    scheme, _, token = authorization[: MAX_TOKEN_BYTES + 1].partition(b" ")
    token = token.strip(b" \t")
    if scheme.lower() != b"bearer" or not token:
        raise Unauthorized("the header `Authorization` must be `Bearer KEY`")
    if len(authorization) > MAX_TOKEN_BYTES:
        raise Unauthorized("this API key is not known")
    return token


def tier_for(caller: Caller, service_tier: str | None) -> str:
    """The tier to serve at: the one asked for, up to the caller's ceiling; for nothing, `auto` or another word, the caller's own."""
    if service_tier not in TIERS:
        return caller.tier
    return min(service_tier, caller.ceiling, key=TIERS.index)
