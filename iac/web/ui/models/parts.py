"""Pages that change while they are looked at: lists of parts, compared by what they say, so that only changes are sent.

A part is one element of a page. Its digest is of its model, not of its HTML: `3 min ago` becoming `4 min ago` is no change,
every page counts time by itself.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import msgspec


class Part(msgspec.Struct, frozen=True):
    """One element. `macro` is `file:name` below templates/parts; it draws `model` in an element that has the part's id."""

    id: str
    macro: str
    model: msgspec.Struct

    @property
    def digest(self) -> str:
        return hashlib.blake2b(self.macro.encode() + msgspec.json.encode(self.model), digest_size=6).hexdigest()


class Parts(msgspec.Struct, frozen=True):
    """The children of the element with this id, in order."""

    id: str
    parts: tuple[Part, ...]


class View(msgspec.Struct, frozen=True, kw_only=True):
    """Base of what a page shows. Fields that are `Parts` are alive; all others are as of when the page was made."""

    title: str
    address: str = ""
    """The page's address in its shortest form, where it can be said in several ways."""

    @property
    def lists(self) -> tuple[Parts, ...]:
        found = (getattr(self, name) for name in self.__struct_fields__)
        return tuple(value for value in found if isinstance(value, Parts))


class Asked(View, frozen=True, kw_only=True):
    """A form: where its answer goes, where one came from. It has a page of its own, or stands in a dialog: `bare`."""

    back: str
    back_words: str
    action: str
    bare: bool


class Sure(Asked, frozen=True, kw_only=True):
    """Asks whether something is really to be done: `says` what that means, `does` is on the button."""

    says: str
    does: str
    danger: bool = True
    hidden: tuple[tuple[str, str], ...] = ()
    """Names and values that are sent along."""


class Leave(msgspec.Struct, frozen=True):
    """Said to a form's deed: a form that has a page of its own sends `leave`, for one leaves that when it is done."""

    leave: str = ""


class Shape(msgspec.Struct, frozen=True):
    """What a browser has: which parts stand in which list, and what each of them says."""

    lists: Mapping[str, tuple[str, ...]]
    digests: Mapping[str, str]


class Patch(msgspec.Struct, frozen=True):
    """What makes one shape the other: the new order of lists, and the ids of parts to draw anew."""

    lists: Mapping[str, tuple[str, ...]]
    parts: tuple[str, ...]

    @property
    def empty(self) -> bool:
        return not self.lists and not self.parts


NOTHING = Shape({}, {})


def shape_of(lists: Sequence[Parts]) -> Shape:
    return Shape(
        {each.id: tuple(part.id for part in each.parts) for each in lists},
        {part.id: part.digest for each in lists for part in each.parts},
    )


def difference(before: Shape, after: Shape) -> Patch:
    return Patch(
        {name: ids for name, ids in after.lists.items() if before.lists.get(name) != ids},
        tuple(part for part, digest in after.digests.items() if before.digests.get(part) != digest),
    )
