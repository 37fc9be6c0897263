"""Templates: safe (everything is escaped unless it is Markup) and strict (a name that is missing is an error)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from functools import cache
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup, escape

from iac import __version__
from iac.web.ui.assets import asset
from iac.web.ui.icons import icon
from iac.web.ui.models.parts import Part, Parts
from iac.web.ui.models.times import ago, exact, lasting
from iac.web.ui.models.words import many


def page(name: str, **context: object) -> str:
    """A whole page, from a template below templates/."""
    return _environment().get_template(name).render(**context)


def part(shown: Part) -> Markup:
    """One part of a page, as its macro draws it."""
    file, _, macro = shown.macro.partition(":")
    # Hundreds of these make a page, and Markup's own format takes longer than the macro.
    attributes = Markup(f'id="{escape(shown.id)}" data-digest="{shown.digest}"')  # noqa: S704 - a digest is hexadecimal
    drawn = _macro(f"parts/{file}", macro)(attributes, shown.model)
    return Markup(str(drawn).strip())  # noqa: S704 - the macro has escaped what it was given


def parts(shown: Parts) -> Markup:
    """The parts of a list, in order; the element around them must have the list's id and `data-parts`."""
    return Markup("\n").join(part(each) for each in shown.parts)


def since(then: datetime | None, kind: str = "ago") -> Markup:
    """An instant in relative words (`ago`, or `lasting` for what still goes on), exact when pointed at."""
    if then is None:
        return Markup("")
    now = datetime.now(UTC)
    words = ago(then, now) if kind == "ago" else lasting((now - then).total_seconds())
    instant = then.astimezone(UTC).isoformat()
    # Nothing in it is anybody's text.
    return Markup(f'<time datetime="{instant}" title="{exact(then)}" data-{kind}>{words}</time>')  # noqa: S704


def segment(text: str) -> str:
    """Text as one segment of a path."""
    return quote(text, safe="")


@cache
def _environment() -> Environment:
    made = Environment(
        loader=PackageLoader("iac.web.ui", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals.update(asset=asset, icon=icon, part=part, parts=parts, since=since, many=many, version=__version__)
    made.filters.update(segment=segment, breakable=breakable)
    return made


@cache
def _macro(file: str, name: str) -> Callable[..., Markup]:
    template: Template = _environment().get_template(file)
    made: Callable[..., Markup] = getattr(template.module, name)
    return made


def breakable(text: str) -> Markup:
    """A long name that may be broken after its separators."""
    pieces: Iterable[str] = str(escape(text)).replace("_", "_<wbr>").replace("-", "-<wbr>").split(".")
    return Markup(".<wbr>".join(pieces))  # noqa: S704 - escaped before; entities have none of the three signs
