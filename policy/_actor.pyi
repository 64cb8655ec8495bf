from .encode import Seen
from .numeric import Column, Flags

LAYOUT: tuple[tuple[float | str, ...], ...]

class Actor:
    def __init__(self, weights: bytes, parameters: tuple[float, ...]) -> None: ...
    def act(self, features: Column, mask: Flags, seen: Seen) -> list[float] | None: ...
