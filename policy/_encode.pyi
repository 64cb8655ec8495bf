from .encode import Seen

LAYOUT: tuple[tuple[float | str, ...], ...]

def fill(seen: Seen) -> tuple[list[float], list[bool]] | None: ...
