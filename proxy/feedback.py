"""What clients think of answers: who may say it, how often, and how it is read.

The id of a decision that a client gets ends in a tag: a keyed hash of the decision and of the name of the caller's key. Every process that
has the log's secret can therefore tell, at any later time, whether a decision was made for whoever rates it, without looking anything up.
The latest word on a decision counts. How much one key can say is bounded twice: by the minute, and by MOST_CHANGES of mind on a decision.
"""

import hmac
import json
import math
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

from .errors import BadAsk, NotFound
from .keys import Quota

MOST_BYTES = 4096
MOST_CHANGES = 8
REMEMBERED = 50_000  # decisions of which a process knows what was said last
RATINGS = {"up": 1.0, "down": 0.0}
SECRET = "secret"  # noqa: S105  a file's name
EDGE = 4096  # bytes at the end of a prompt, and half of it at its beginning, that tell it from others

Bytes = bytes | memoryview


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one request says of one decision, whose id is as the client has it."""

    decision: str
    score: float  # from 0 to 1


def parse(body: bytes) -> Opinion:
    """Read a request's body. Raises BadAsk naming the field. What else is in it is not looked at."""
    try:
        said = json.loads(body)  # the standard library's, since it reads the NaN that others write, and so can name the field
    except (ValueError, RecursionError) as error:
        raise BadAsk("The body is not valid JSON.", code="invalid_json") from error
    if not isinstance(said, dict):
        raise BadAsk("The body must be a JSON object.")
    decision = said.get("decision")
    if not isinstance(decision, str) or not decision:
        raise BadAsk("'decision' must be the id from the header x-bestserve-decision.", param="decision", code="invalid_type")
    return Opinion(decision, _score(said))


def _score(said: dict[str, Any]) -> float:
    score, rating = said.get("score"), said.get("rating")
    if (score is None) == (rating is None):
        raise BadAsk("Either 'score' or 'rating' must be there, and not both.", param="score")
    if rating is not None:
        if not isinstance(rating, str) or rating not in RATINGS:
            raise BadAsk('\'rating\' must be "up" or "down".', param="rating", code="invalid_value")
        return RATINGS[rating]
    if not isinstance(score, int | float) or isinstance(score, bool) or not math.isfinite(score) or not 0 <= score <= 1:
        raise BadAsk("'score' must be a number from 0 to 1.", param="score", code="invalid_value")
    return float(score)


class Seals:
    """Keyed hashes by the log's secret."""

    def __init__(self, secret: bytes) -> None:
        self._secret = blake2b(secret, digest_size=32).digest()

    def told(self, decision: str, caller: str) -> str:
        """The id of a decision as its caller is told it."""
        return f"{decision}.{self._tag(decision, caller)}"

    def own(self, told: str, caller: str) -> str:
        """The decision that an id is of. Raises NotFound when it was not made for this caller, or is none."""
        decision, _, tag = told.rpartition(".")
        if not decision or not hmac.compare_digest(tag.encode(), self._tag(decision, caller).encode()):
            raise NotFound("No decision with this id was made for this key.", param="decision", code="decision_not_found")
        return decision

    def prompt(self, caller: str, text: Bytes) -> str:
        """A name for a prompt that says nothing about it, and is a caller's own. Of a long one, its length and both ends are looked at."""
        known = blake2b(digest_size=8, key=self._secret, person=b"prompt")
        known.update(b"%b\0%d\0" % (caller.encode(), len(text)))
        known.update(text if len(text) <= EDGE + EDGE // 2 else bytes(text[: EDGE // 2]) + bytes(text[-EDGE:]))
        return known.hexdigest()

    def _tag(self, decision: str, caller: str) -> str:
        said = b"%b\0%b" % (decision.encode("utf-8", "replace"), caller.encode())
        return blake2b(said, digest_size=8, key=self._secret, person=b"decision").hexdigest()


def secret_of(folder: Path) -> bytes:
    """The secret that a directory keeps; made by whoever comes first. Raises OSError."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path, mine = folder / SECRET, folder / f".{SECRET}-{secrets.token_hex(8)}"
    if not path.exists():
        number = os.open(mine, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(number, secrets.token_hex(32).encode())
            os.fsync(number)
            os.link(mine, path)  # whole or not at all, and never over another's
        except FileExistsError:
            pass
        finally:
            os.close(number)
            mine.unlink()
    return path.read_bytes().strip()


class Desk:
    """Takes opinions, within bounds, and hands them to the log."""

    def __init__(self, seals: Seals, per_minute: int, keep: Callable[[str, str, float], None]) -> None:
        self.seals = seals
        self._per_minute, self._keep = per_minute, keep
        self._quotas: dict[str, Quota] = {}
        self._last: OrderedDict[str, tuple[float, int]] = OrderedDict()  # decision -> its score, and how often that was said anew

    def take(self, caller: str, body: bytes, now: float) -> Opinion:
        """Note what a caller says. Raises BadAsk, NotFound and OverQuota."""
        self._quotas.setdefault(caller, Quota(self._per_minute)).take(now)  # names of keys: as many as the config has
        opinion = parse(body)
        decision = self.seals.own(opinion.decision, caller)
        score, n = self._last.get(decision, (None, 0))
        if score != opinion.score:
            if n >= MOST_CHANGES:
                raise BadAsk(f"This decision was rated {n} times; no more is taken.", param="decision", code="rated_too_often")
            self._keep(decision, caller, opinion.score)
            self._last[decision] = (opinion.score, n + 1)
            if len(self._last) > REMEMBERED:
                self._last.popitem(last=False)
        return opinion
