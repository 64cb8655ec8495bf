class Reader:
    def __init__(
        self,
        keys: list[str],
        counts: tuple[int, ...],
        weights: bytes,
        columns: int,
        units: tuple[float, ...],
        carry: tuple[float, ...],
    ) -> None: ...
    def read(self, text: str, size: int, before: str, system: str) -> tuple[list[int], list[int] | None, bool]: ...
