"""How an answer is checked: each kind of check is a model of its row in a prompt file, and gives a score in [0, 1].

A check looks at what the model said after its thoughts. The exact ones (exact, one_of, label, number, regex, json, code) know what is
right; `contains`, `avoids`, `length`, `language` and `overlap` know only what a right answer has about it, and can be had by an answer that
is poor otherwise: docs/quality.md says how coarse each is. `all` puts checks together.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from . import sandbox, text

PATTERN_S = 1.0
"""Seconds that a pattern may take: it was written by whoever wrote the prompts, but what it runs over was written by a model."""


class Limits(BaseModel):
    """From and to, both included."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    min: float = 0
    max: float = math.inf

    def holds(self, value: float) -> float:
        """1 inside; outside it falls to 0 where the value is off by half of the limit."""
        if value < self.min:
            return max(0.0, 1 - 2 * (self.min - value) / self.min)
        return 1.0 if value <= self.max else max(0.0, 1 - 2 * (value - self.max) / max(self.max, 1))


class Checked(BaseModel):
    """What every kind of check has."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weight: float = Field(default=1.0, gt=0)  # inside `all`, beside the other parts
    must: bool = False  # inside `all`: a factor of the whole instead of a part

    def score(self, said: str) -> float:
        raise NotImplementedError


class Exact(Checked):
    """The whole answer is this, but for case, space, emphasis and closing punctuation."""

    check: Literal["exact"]
    answer: str

    def score(self, said: str) -> float:
        return float(text.plain(said) == text.plain(self.answer))


class OneOf(Checked):
    """The whole answer is one of these."""

    check: Literal["one_of"]
    answer: list[str] = Field(min_length=1)

    def score(self, said: str) -> float:
        return float(text.plain(said) in map(text.plain, self.answer))


class Label(Checked):
    """The answer names the right label and no other one; where it names several, its first or else its last line has to."""

    check: Literal["label"]
    answer: str | list[str]
    labels: list[str] = Field(min_length=2)

    @model_validator(mode="after")
    def _is_a_label(self) -> "Label":
        strange = self._right() - set(map(text.plain, self.labels))
        if strange:
            raise ValueError(f"{', '.join(sorted(strange))}: not among labels")
        return self

    def score(self, said: str) -> float:
        lines = [line for line in said.splitlines() if line.strip()]
        for part in (said, *lines[:1], *lines[-1:]):
            named = self._named(text.plain(part))
            if len(named) == 1:
                return float(named <= self._right())
        return 0.0

    def _right(self) -> set[str]:
        return set(map(text.plain, [self.answer] if isinstance(self.answer, str) else self.answer))

    def _named(self, said: str) -> set[str]:
        """The labels in a plain text; one within another counts as the longer."""
        found = set()
        for label in sorted(map(text.plain, self.labels), key=len, reverse=True):
            if text.holds(said, label):
                found.add(label)
                said = said.replace(label, " ")
        return found


class Number(Checked):
    """The number that the answer ends at (or boxes) is this one."""

    check: Literal["number"]
    answer: float
    tolerance: float = Field(default=1e-6, ge=0)  # absolute; at least a millionth of the answer

    def score(self, said: str) -> float:
        value = text.number(said)
        return float(value is not None and math.isclose(value, self.answer, rel_tol=1e-6, abs_tol=self.tolerance))


class Regex(Checked):
    """The pattern is found in the answer. Library `regex`, flags written in the pattern; a pattern that takes too long is not found."""

    check: Literal["regex"]
    answer: str

    @field_validator("answer")
    @classmethod
    def _compiles(cls, pattern: str) -> str:
        import regex

        try:
            regex.compile(pattern)
        except regex.error as error:
            raise ValueError(f"not a pattern: {error}") from error
        return pattern

    def score(self, said: str) -> float:
        return float(_found(self.answer, said))


class Json(Checked):
    """The answer holds JSON that the schema accepts, worth half; the other half is the share of `fields` that have the right value."""

    check: Literal["json"]
    answer: dict[str, Any]
    fields: dict[str, Any] = Field(default_factory=dict)  # dotted path -> value; a list is a set of values, for order is rarely asked for

    @field_validator("answer")
    @classmethod
    def _is_a_schema(cls, schema: dict[str, Any]) -> dict[str, Any]:
        import jsonschema

        try:
            jsonschema.Draft202012Validator.check_schema(schema)
        except jsonschema.SchemaError as error:
            raise ValueError(f"not a JSON schema: {error.message}") from error
        _resolve(schema)
        return schema

    def score(self, said: str) -> float:
        try:
            value = text.json(said)
        except ValueError:
            return 0.0
        try:
            if not _validators()(self.answer).is_valid(value):
                return 0.0
        except RecursionError:  # a value that is nested without end, in a schema that follows it
            return 0.0
        right = [_same(_at(value, path), wanted) for path, wanted in self.fields.items()]
        return 0.5 + 0.5 * sum(right) / len(right) if right else 1.0


def _can_be_found(phrase: str) -> str:
    if not text.plain(phrase):
        raise ValueError(f"{phrase!r} is nothing but punctuation, which is not looked at: use regex")
    return phrase


Phrase = Annotated[str, AfterValidator(_can_be_found)]


class Contains(Checked):
    """The share of these that stand in the answer; of a list within the list, one is enough."""

    check: Literal["contains"]
    answer: list[Phrase | list[Phrase]] = Field(min_length=1)

    def score(self, said: str) -> float:
        within = text.plain(said)
        return sum(any(text.holds(within, one) for one in _listed(wanted)) for wanted in self.answer) / len(self.answer)


class Avoids(Checked):
    """None of these stands in the answer."""

    check: Literal["avoids"]
    answer: list[Phrase] = Field(min_length=1)

    def score(self, said: str) -> float:
        within = text.plain(said)
        return float(bool(within) and not any(text.holds(within, one) for one in self.answer))


class Length(Checked):
    """The answer is as long as was asked for."""

    check: Literal["length"]
    answer: Limits
    unit: Literal["words", "sentences", "lines", "bullets", "characters"] = "words"

    def score(self, said: str) -> float:
        return self.answer.holds(text.count(said, self.unit)) if said else 0.0


class Language(Checked):
    """The answer is in this language rather than in one of the others (ISO 639-1)."""

    check: Literal["language"]
    answer: str
    instead_of: list[str] = Field(default_factory=lambda: ["en"])

    @model_validator(mode="after")
    def _can_be_told(self) -> "Language":
        for code in (self.answer, *self.instead_of):
            if code not in text.languages():
                raise ValueError(f"{code!r} is not the code of a language that can be told")
        return self

    def score(self, said: str) -> float:
        return float(bool(said) and text.language(said, [self.answer, *self.instead_of]) == self.answer)


class Overlap(Checked):
    """chrF with the nearest reference: 0 at `floor` and below, 1 at `ceiling` and above."""

    check: Literal["overlap"]
    answer: list[str] = Field(min_length=1)
    floor: float = Field(default=0.25, ge=0, lt=1)
    ceiling: float = Field(default=0.6, gt=0, le=1)

    def score(self, said: str) -> float:
        likeness = max(text.chrf(said, reference) for reference in self.answer)
        return min(1.0, max(0.0, (likeness - self.floor) / (self.ceiling - self.floor)))


class Call(BaseModel):
    """One test of a program: an expression, and what it gives, or the name of the exception that it raises."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    call: str
    gives: Any = None
    raises: str | None = None

    def passes(self, got: Any) -> bool:
        return got == sandbox.Error(self.raises) if self.raises else not isinstance(got, sandbox.Error) and _equal(got, self.gives)


class Code(Checked):
    """The program in the answer passes every test. Run in a process that can do nothing but compute."""

    check: Literal["code"]
    answer: list[Call] = Field(min_length=1)

    def score(self, said: str) -> float:
        ran = sandbox.run(text.code(said), [test.call for test in self.answer])
        if len(ran.values) != len(self.answer):
            return 0.0
        return float(all(test.passes(got) for got, test in zip(ran.values, self.answer, strict=True)))


class All(Checked):
    """Several checks: the weighted mean of the parts, times each that must be."""

    check: Literal["all"]
    answer: "list[Check]" = Field(min_length=1)

    def score(self, said: str) -> float:
        parts = [part for part in self.answer if not part.must]
        weights = sum(part.weight for part in parts)
        mean = sum(part.weight * part.score(said) for part in parts) / weights if parts else 1.0
        for part in self.answer:
            if part.must and mean > 0:
                mean *= part.score(said)
        return mean


Check = Annotated[
    Exact | OneOf | Label | Number | Regex | Json | Contains | Avoids | Length | Language | Overlap | Code | All,
    Field(discriminator="check"),
]
KINDS = ("exact", "one_of", "label", "number", "regex", "json", "contains", "avoids", "length", "language", "overlap", "code", "all")

_adapter: TypeAdapter[Any] = TypeAdapter(Check)


def read(row: Mapping[str, Any]) -> Checked:
    """A check from its row. Raises ValueError that names the field."""
    try:
        check: Checked = _adapter.validate_python(row)
    except ValidationError as error:
        raise ValueError(_told(error)) from error
    return check


def runs_code(check: Checked) -> bool:
    """Whether the sandbox is needed."""
    return isinstance(check, Code) or (isinstance(check, All) and any(runs_code(part) for part in check.answer))


def _told(error: ValidationError) -> str:
    """The first problem, by the name of its field. A union's tag in the path names a kind of check and is left out."""
    first = error.errors(include_url=False, include_context=False)[0]
    if first["type"].startswith("union_tag"):
        return f"check: must be one of {', '.join(KINDS)}"
    path = [str(step) for step in first["loc"] if step not in KINDS]
    return ".".join(path) + ": " * bool(path) + first["msg"].removeprefix("Value error, ")


def _found(pattern: str, said: str) -> bool:
    import regex

    try:
        return regex.search(pattern, said, timeout=PATTERN_S) is not None
    except TimeoutError:
        return False


@lru_cache(maxsize=1)
def _validators() -> Callable[..., Any]:
    """JSON schema 2020-12 that fetches nothing, and whose patterns are bounded in time."""
    import jsonschema
    import referencing

    def pattern(validator: Any, pattern: str, instance: Any, schema: Any) -> Any:
        if isinstance(instance, str) and not _found(pattern, instance):
            yield jsonschema.ValidationError(f"{instance!r} does not match")

    kind = jsonschema.validators.extend(jsonschema.Draft202012Validator, {"pattern": pattern})
    return lambda schema: kind(schema, registry=referencing.Registry())


def _resolve(schema: dict[str, Any]) -> None:
    """Follow every reference once. Raises ValueError for one that leads out of the schema or nowhere."""
    import referencing
    from referencing.jsonschema import DRAFT202012

    resolver = referencing.Registry().resolver_with_root(DRAFT202012.create_resource(schema))
    for reference in _references(schema):
        try:
            resolver.lookup(reference)
        except referencing.exceptions.Unresolvable as error:
            raise ValueError(f"the schema has no {reference!r}, and nothing is fetched") from error


def _references(schema: Any) -> Iterator[str]:
    for key, value in schema.items() if isinstance(schema, dict) else enumerate(schema) if isinstance(schema, list) else ():
        if key == "$ref":
            yield str(value)
        yield from _references(value)


def _at(value: Any, path: str) -> Any:
    """What stands at a dotted path of keys and places; None where nothing does."""
    for step in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(step)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            return None
    return value


def _same(value: Any, wanted: Any) -> bool:
    """Whether an extracted value is the right one: texts as they are compared, lists whatever their order."""
    if isinstance(wanted, list):
        return isinstance(value, list) and sorted(map(_key, value)) == sorted(map(_key, wanted))
    return _key(value) == _key(wanted)


def _key(value: Any) -> str:
    if isinstance(value, str):
        return "s" + text.plain(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return f"n{value:.9g}"
    return repr(value)


def _equal(got: Any, wanted: Any) -> bool:
    """Equal as values of Python are, with the last digits of floats let go."""
    if isinstance(wanted, float) and isinstance(got, int | float):
        return math.isclose(got, wanted, rel_tol=1e-6, abs_tol=1e-9)
    if isinstance(wanted, list) and isinstance(got, list):
        return len(got) == len(wanted) and all(map(_equal, got, wanted))
    if isinstance(wanted, dict) and isinstance(got, dict):
        return got.keys() == wanted.keys() and all(_equal(got[key], wanted[key]) for key in wanted)
    return bool(got == wanted)


def _listed(wanted: str | Sequence[str]) -> Sequence[str]:
    return [wanted] if isinstance(wanted, str) else wanted
