from array import array

from .encode import Seen

LAYOUT: tuple[tuple[float | str, ...], ...]

def fill(seen: Seen) -> tuple[array[float], list[bool]] | None: ...
