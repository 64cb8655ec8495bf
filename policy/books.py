"""The numbers that a Fleet keeps, and the arithmetic that changes them.

Open work: what was begun and has not ended, counted by us, exact; of what is being written also how far it has come, and since when.
Reports: what a backend says beyond that, late and fading. Paces: how long first tokens and tokens have taken lately beside what was
predicted, in logs, so that twice and half as long balance.
"""

import math
from typing import NamedTuple

from .circuit import Circuits, lets_through
from .numeric import Cells, Column, FlagCells, numeric

FADE_S = 10.0
"""Load that was reported and is not ours is halved by e every so many seconds."""

PACE_S = 300.0
"""What was learnt of a backend's pace is worth e times less every so many seconds."""

PACE_DOUBT = 4.0
"""So many answers have to speak for a pace as loudly as the profile speaks against it."""

PACE_MOST = 200.0
"""Answers that are remembered of a pace, at most: it stays able to move."""

PACE_BOUND = math.log(8.0)
"""No single answer counts for more than this; and no pace is believed beyond it."""


class Open(NamedTuple):
    """What was begun and has not ended, (B,) each."""

    requests: Cells
    prefill: Cells  # prompt tokens that are still to be read
    decode: Cells  # tokens still expected
    kv: Cells  # tokens of context held
    haste: Cells  # the sum of 1 / expected tokens of an answer
    worth: Cells  # the sum of what they are worth on time: weight and expected quality
    writing: Cells  # requests that have their first token
    written: Cells  # tokens that those have, of one choice each
    since: Cells  # the sum of the instants of their first tokens

    @classmethod
    def of(cls, n_backends: int) -> "Open":
        """Nothing begun."""
        return cls(*([0.0] * n_backends for _ in cls._fields))


class Reports(NamedTuple):
    """What backends say of themselves, (B,) each."""

    at: Cells  # when; -inf before the first report
    running: Cells
    waiting: Cells
    stood: Cells  # the queue that was there at this report and at the one before
    requests: Cells  # beyond what is ours, at the report
    decode: Cells
    kv: Cells

    @classmethod
    def of(cls, n_backends: int) -> "Reports":
        """Nothing said."""
        return cls([-math.inf] * n_backends, *([0.0] * n_backends for _ in range(6)))


class Paces(NamedTuple):
    """Of one kind of prediction, (B,) each: the mean log of took / predicted, and how much speaks for it."""

    mean: Cells
    weight: Cells
    at: Cells  # when the weight was as it is

    @classmethod
    def of(cls, n_backends: int) -> "Paces":
        """Nothing known."""
        return cls(*([0.0] * n_backends for _ in range(3)))


@numeric
def add(books: Open, b: int, requests: float, prefill: float, decode: float, kv: float, haste: float, worth: float) -> None:
    """Change backend b's open work."""
    books.requests[b] += requests
    books.prefill[b] += prefill
    books.decode[b] += decode
    books.kv[b] += kv
    books.haste[b] += haste
    books.worth[b] += worth


@numeric
def write(books: Open, b: int, requests: float, tokens: float, since: float) -> None:
    """Change what is being written at backend b: answers that have their first token, their tokens, and the sum of its instants."""
    books.writing[b] += requests
    books.written[b] += tokens
    books.since[b] += since


@numeric
def hear(reports: Reports, books: Open, b: int, running: float, waiting: float, used: float, now: float) -> None:
    """Take a report of backend b beside the open work that is ours."""
    ours = books.requests[b]
    foreign = max(0.0, running + waiting - ours)
    reports.stood[b] = min(reports.waiting[b], waiting) if now - reports.at[b] < FADE_S else 0.0
    reports.at[b], reports.running[b], reports.waiting[b] = now, running, waiting
    reports.requests[b] = foreign
    reports.decode[b] = foreign * (books.decode[b] / ours) if ours > 0.0 else 0.0
    reports.kv[b] = max(0.0, used - books.kv[b]) if foreign > 0.0 else 0.0


@numeric
def foreign_share(reports: Reports, b: int, now: float) -> float:
    """How much of what was reported beyond ours still counts."""
    return math.exp(-(now - reports.at[b]) / FADE_S) if reports.requests[b] > 0.0 else 0.0


@numeric
def places_at(reports: Reports, b: int, now: float, limit: float, writing: float) -> float:
    """Requests that backend b decodes together, of which `writing` do so now: its limit, or fewer where a queue lately stood behind fewer.

    A clump of prompts waits to be read, and not for places: it is gone at the next report, or more are writing by now than ran before it
    (as far as they stream: of the others nobody hears that they write).
    """
    if reports.stood[b] > 0.0 and writing <= reports.running[b] and now - reports.at[b] < FADE_S:
        return min(limit, max(reports.running[b], 1.0))
    return limit


@numeric
def pace_of(paces: Paces, b: int, now: float) -> float:
    """How many times as long as predicted things have taken at backend b lately; 1 where nothing is known."""
    weight = paces.weight[b]
    if weight == 0.0:
        return 1.0
    weight *= math.exp(-(now - paces.at[b]) / PACE_S)
    return math.exp(paces.mean[b] * weight / (weight + PACE_DOUBT))


@numeric
def learn_pace(paces: Paces, b: int, now: float, took: float, predicted: float, pace: float) -> None:
    """Take note that something took `took` s that was predicted to take `predicted` s at a pace of `pace`."""
    if took <= 0.0 or predicted <= 0.0:
        return
    off = math.log(took / predicted * pace)
    weight = paces.weight[b] * math.exp(-(now - paces.at[b]) / PACE_S) + 1.0
    paces.mean[b] += (max(-PACE_BOUND, min(off, PACE_BOUND)) - paces.mean[b]) / weight
    paces.weight[b], paces.at[b] = min(weight, PACE_MOST), now


class Look(NamedTuple):
    """What a picture of the fleet is made of, (B,) each: the columns of `facts.Columns` that are worked out for it."""

    usable: FlagCells
    held: FlagCells
    in_flight: Cells
    prefill_tokens: Cells
    decode_tokens: Cells
    kv_tokens: Cells
    haste: Cells
    worth: Cells
    writing: Cells
    written: Cells
    writing_s: Cells
    places: Cells
    report_age_s: Cells
    pace_first: Cells
    pace_each: Cells

    @classmethod
    def of(cls, n_backends: int) -> "Look":
        """Blank."""
        return cls([False] * n_backends, [False] * n_backends, *([0.0] * n_backends for _ in cls._fields[2:]))


class Kept(NamedTuple):
    """All that a Fleet keeps of its backends in columns."""

    open: Open
    reports: Reports
    first: Paces
    each: Paces
    circuits: Circuits

    @classmethod
    def of(cls, n_backends: int) -> "Kept":
        """Nothing begun, said or learnt."""
        return cls(Open.of(n_backends), Reports.of(n_backends), Paces.of(n_backends), Paces.of(n_backends), Circuits.of(n_backends))


@numeric
def look(into: Look, kept: Kept, limits: Column, most: Column, now: float) -> None:
    """Picture the fleet at an instant: what is ours and what is foreign, who may be asked, how far predictions have been off.

    `limits` are the requests that each backend decodes together, `most` those that its operator lets be there at once.
    """
    reports, circuits = kept.reports, kept.circuits
    for b in range(len(limits)):
        foreign = foreign_share(reports, b, now)
        into.in_flight[b] = kept.open.requests[b] + reports.requests[b] * foreign
        into.prefill_tokens[b] = kept.open.prefill[b]
        into.decode_tokens[b] = kept.open.decode[b] + reports.decode[b] * foreign
        into.kv_tokens[b] = kept.open.kv[b] + reports.kv[b] * foreign
        ours = max(kept.open.requests[b], 1.0)
        into.haste[b], into.worth[b] = kept.open.haste[b] / ours, kept.open.worth[b] / ours
        into.writing[b], into.written[b] = kept.open.writing[b], kept.open.written[b]
        into.writing_s[b] = max(kept.open.writing[b] * now - kept.open.since[b], 0.0)
        into.places[b] = places_at(reports, b, now, limits[b], kept.open.writing[b])
        into.report_age_s[b] = now - reports.at[b]
        into.usable[b] = lets_through(circuits, b, now) and into.in_flight[b] < most[b]
        into.held[b] = now < circuits.held_until[b]
        into.pace_first[b] = pace_of(kept.first, b, now)
        into.pace_each[b] = pace_of(kept.each, b, now)


@numeric
def rate_after(rate: float, at: float, now: float, over_s: float) -> float:
    """An arrival rate that was `rate` at `at`, seen now without an arrival since."""
    return rate * math.exp(-(now - at) / over_s) if rate > 0.0 else 0.0


def total(*books: Open) -> Open:
    """The sum of several books of the same backends."""
    return Open(*([math.fsum(values) for values in zip(*columns, strict=True)] for columns in zip(*books, strict=True)))


def copy(books: Open) -> Open:
    """A picture that later changes leave alone."""
    return Open(*map(list, books))
