"""Times as people say them: `90s`, `30m`, `24h`, `7d` ago, or a date."""

import re
from datetime import UTC, datetime

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhd])")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def since(text: str, now: float) -> float:
    """Seconds since 1970. A date without a zone is UTC. Raises ValueError."""
    ago = _AGO.fullmatch(text)
    if ago is not None:
        return now - float(ago[1]) * _SECONDS[ago[2]]
    try:
        date = datetime.fromisoformat(text)
    except ValueError as error:
        raise ValueError(f"{text!r} is neither a time ago like 24h or 7d, nor a date like 2026-11-22T08:00") from error
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
