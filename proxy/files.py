"""Files that are read whole, and may not be larger than they can sensibly be."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")


def read(path: Path, most: int, parse: Callable[[bytes], T], refusal: type[ValueError]) -> T:
    """What a file of at most `most` bytes says. Raises `refusal`, which names the file, where it cannot be read or `parse` refuses it."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise refusal(f"{path}: cannot be read: {error.strerror}") from error
    if len(data) > most:
        raise refusal(f"{path}: is larger than {most} bytes")
    try:
        return parse(data)
    except refusal as error:
        raise refusal(f"{path}: {error}") from error
