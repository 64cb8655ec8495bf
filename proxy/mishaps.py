"""What goes wrong in a simulation on purpose: profiles that are not true, backends that die or slow down."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bestserve.policy.scene import Places, Trouble

from .config_words import near

FORM = "NAME=down@FROM-TO or NAME=2.5x@FROM-TO, in seconds"

_TROUBLE = re.compile(r"(?P<name>[^=]+)=(?:down|(?P<times>\d+(?:\.\d+)?)x)@(?P<begin>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)")


class BadMishap(ValueError):
    """Words for something that cannot go wrong."""


@dataclass(frozen=True, slots=True)
class Mishaps:
    """The same for every policy of a contest."""

    wrong: float = 1.0  # the engines' true constants are off by up to this factor; see `learn.scenes.mistaken`
    troubles: tuple[Trouble, ...] = ()
    told: bool = False  # what is true of engines, quality and lengths is believed, too: what knowing it would be worth

    def befall(self, places: Places, seed: int) -> Places:
        """A fleet, with what goes wrong there. Which constants are wrong, and by how much, follows from the seed."""
        if self.wrong > 1.0:
            from bestserve.policy.learn.scenes import Doubt, believed, mistaken

            places = mistaken(np.random.default_rng([seed, 1]), places, Doubt(factor=self.wrong))
            places = believed(places) if self.told else places
        return replace(places, troubles=(*places.troubles, *self.troubles))


def mishaps_of(wrong: float, words: Sequence[str], places: Places) -> Mishaps:
    """As the command line says them. Raises BadMishap."""
    return Mishaps(wrong, tuple(_trouble(word, [backend.name for backend in places.backends]) for word in words))


def _trouble(word: str, names: list[str]) -> Trouble:
    found = _TROUBLE.fullmatch(word)
    if found is None:
        raise BadMishap(f"--trouble {word}: is not {FORM}")
    if found["name"] not in names:
        raise BadMishap(f"--trouble {word}: the fleet has {', '.join(names)}{near(found['name'], names)}")
    span = float(found["begin"]), float(found["end"])
    if span[0] >= span[1]:
        raise BadMishap(f"--trouble {word}: ends before it begins")
    b = names.index(found["name"])
    return Trouble(b, down=span) if found["times"] is None else Trouble(b, slow=span, slowness=float(found["times"]))
