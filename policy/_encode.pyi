from array import array

from .encode import Seen
from .facts import Floats

LAYOUT: tuple[tuple[float | str, ...], ...]

def fill(seen: Seen) -> tuple[array[float], list[bool]] | None: ...
def worth_of(knowledge: Floats, task: tuple[float, ...]) -> list[float] | None: ...
