"""What pydantic finds wrong with a config file, in the operator's words."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import ErrorDetails

from .config_file import BROKEN, Entries, File, Loc, dotted, shown

SAYS = {  # of every pattern: what it wants
    (WORD := r"^[!-~]+$"): "text without spaces",
    (PROSE := r"\S"): "text that is not empty",
    (NAME := r"^[A-Za-z0-9._-]{1,64}$"): "1 to 64 letters, digits, dots, dashes or underscores",
    (ALIAS := r"^[A-Za-z0-9._:/@+-]{1,128}$"): "1 to 128 letters, digits or any of . _ : / @ + -",
    (SECRET := r"^[!-~]{16,}$"): "at least 16 characters without spaces",
    (SHA256 := r"^[0-9a-fA-F]{64}$"): "the 64 hex digits of the key's SHA-256",
}

_SAID = {  # by pydantic's types of errors, where its own words are not an operator's
    "bool_parsing": "must be true or false",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping",
    "float_type": "must be a number",
    "frozen_set_type": "must be a list",
    "greater_than_equal": "must be at least {ge:.16g}",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le:.16g}",
    "model_type": "must be a mapping",
    "string_pattern_mismatch": "must be {says}",
    "string_type": "must be text",
    "string_unicode": "must be Unicode text",
    "too_short": "must not be empty",
    "tuple_type": "must be a list",
    "url_parsing": "must be a URL like http://10.0.0.1:30000: {error}",
    "url_scheme": "must be a URL like http://10.0.0.1:30000",
    "url_type": "must be a URL like http://10.0.0.1:30000",
}


class Section(BaseModel):
    """A mapping with certain keys. Left empty, or not written, it stands at its defaults."""

    model_config = ConfigDict(frozen=True, extra="forbid", coerce_numbers_to_str=True, validate_default=True, hide_input_in_errors=True)

    @model_validator(mode="before")
    @classmethod
    def _begin(cls, value: Any) -> Any:
        if isinstance(value, Entries):
            value.settings = cls.model_fields
        return {} if value is None else value


S = TypeVar("S", bound=Section)


def validated(section: type[S], tree: Any, file: File) -> S | None:
    """What the file's values make, or None with its problems noted."""
    try:
        return section.model_validate(tree, context=file)
    except ValidationError as error:
        for wrong in error.errors():
            _note(wrong, file)
    return None


def near(word: str, words: Iterable[str], *, prefix: str = "") -> str:
    """`; did you mean …?` with the nearest right word, or nothing when none is near."""
    found = get_close_matches(word, list(words), n=1)
    return f"; did you mean {prefix}{found[0]}?" if found else ""


def _note(error: ErrorDetails, file: File) -> None:
    """Unless it follows from another: nothing was read there, or what a list lacks are items that are wrong themselves."""
    loc = file.known(error["loc"])
    value = file.places[loc].value
    if error["type"] == "missing":
        file.wrong(error["loc"], "is missing")
    elif value is not BROKEN and not (error["type"] == "too_short" and value):
        file.wrong(loc, _message(error, loc, file))


def _message(error: ErrorDetails, loc: Loc, file: File) -> str:
    context = error.get("ctx", {})
    if error["type"] == "extra_forbidden":
        return "unknown key" + near(str(loc[-1]), file.settings(loc), prefix=dotted((*loc[:-1], "")))
    if error["type"] == "value_error":
        return str(context["error"])
    must = _SAID.get(error["type"], "{msg}").format(**context, msg=error["msg"], says=SAYS.get(context.get("pattern", "")))
    return f"{must.replace('Input should', 'must')}{_found(error, loc, file)}{_hint(error)}"


def _found(error: ErrorDetails, loc: Loc, file: File) -> str:
    """What is there instead, where that helps and is no secret."""
    setting = file.settings(loc).get(str(loc[-1])) if loc else None
    if error["type"].startswith(("too_", "url_")) or (setting and not setting.repr):
        return ""
    return f", is {loc[-1]!r}" if error["loc"][-1:] == ("[key]",) else f", is {shown(file.places[loc].node)}"


def _hint(error: ErrorDetails) -> str:
    if error["type"] == "literal_error":
        return near(str(error["input"]), error["ctx"]["expected"].split("'")[1::2])
    return "; write it in quotes if it is meant" if error["type"] == "string_type" and isinstance(error["input"], bool | None) else ""
