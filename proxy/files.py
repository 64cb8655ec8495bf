"""Files that are read whole, and may not be larger than they can sensibly be; and files that are there whole or not at all."""

import os
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


def write(path: Path, data: bytes, *, lasting: bool = True) -> None:
    """A file that is there whole or not at all: written aside, forced to the disk where it is to outlast a failure of power, and renamed.
    Raises OSError, and leaves what was there before."""
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("wb") as file:
            file.write(data)
            if lasting:
                file.flush()
                os.fsync(file.fileno())
        aside.replace(path)
    except OSError:
        aside.unlink(missing_ok=True)
        raise
