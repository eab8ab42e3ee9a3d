"""Which method "auto" is: the best of those whose weights are on this machine, or can be had.

The best is the one with the highest published mean of the cards (`wordmask.cards`). For a preset that a plug-in brings
it is the plug-in that says, `Plugin.best`: what is published says nothing of other networks. A preset is never changed
for another: nobody gets small networks who has not asked for them.
"""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from wordmask.cards import Card, rank
from wordmask.console import say
from wordmask.methods import DEFAULT_PRESET, MethodError, list_methods
from wordmask.plugins import installed, preset_words
from wordmask.text_files import shown
from wordmask.weights import catalogue
from wordmask.weights.cache import why_offline
from wordmask.weights.catalogue import Weight

AUTO = "auto"


@dataclass(frozen=True)
class Choice:
    """A method, and why it is the one."""

    method: str
    why: str


def settled(method: str, preset: str = DEFAULT_PRESET, weights: str | Path | None = None) -> str:
    """Return the name of a method; that which "auto" is, once it is told which and why. Weights of a method's own can
    be given to one that is named, and to no other.
    """
    if method != AUTO:
        return method
    if weights is not None:
        raise MethodError(f"{AUTO} chooses by what can be had: name the method that weights={weights} are of")
    choice = choose(preset)
    say(f"method: {choice.method}, {choice.why}")
    return choice.method


def choose(preset: str = DEFAULT_PRESET) -> Choice:
    """Return the method that "auto" is with a preset. Nothing is fetched."""
    return _published_best() if preset == DEFAULT_PRESET else _best_of_plugin(preset)


def _best_of_plugin(preset: str) -> Choice:
    known = {method.name for method in list_methods("segmenter")}
    for plugin in installed():
        for name in plugin.best.get(preset, ()):
            if name in known and preset in plugin.presets.get(name, {}):
                return Choice(name, f"the best with the preset {preset} by {plugin.package or 'its package'}")
    raise MethodError(
        f"nothing says which method is best with the preset {shown(preset)}: take a preset of "
        f"{', '.join([DEFAULT_PRESET, *preset_words()])}, or name a method that has it (`wordmask methods`)"
    )


def _published_best() -> Choice:
    from wordmask.weights.fetching import instead_of_fetching, not_fetched, unreachable_servers

    known = {method.name: method.card for method in list_methods("segmenter")}
    ranked = rank(known)
    missing = {name: _missing(known[name]) for name in ranked}
    places = {address for own in missing.values() for entry in own for address in entry.addresses}
    if why := why_offline():
        closed = dict.fromkeys(places, f"downloads are switched off: {why}")
    else:
        closed = unreachable_servers(sorted(places))
    for place, name in enumerate(ranked):
        if all(_can_be_had(entry, closed) for entry in missing[name]):
            return Choice(name, _why(known[name], missing[name], ranked[:place]))
    lacking = missing[ranked[0]]
    addresses = [address for entry in lacking for address in entry.addresses]
    raise MethodError(
        f"no method has all its weights on this machine: {ranked[0]} lacks {', '.join(own.name for own in lacking)}, "
        f"which {not_fetched(_reasons(lacking, closed))}; name a method and {instead_of_fetching(addresses)}"
    )


def _missing(card: Card) -> list[Weight]:
    return [entry for entry in map(catalogue.find, card.weights) if catalogue.local(entry) is None]


def is_here(card: Card) -> bool:
    """Return whether all weights of a card are on this machine."""
    return bool(card.weights) and not _missing(card)


def _reasons(missing: list[Weight], closed: Mapping[str, str]) -> Iterator[str]:
    for entry in missing:
        yield from (closed[address] for address in entry.addresses if address in closed)
        if entry.gated:
            yield f"{entry.name} asks for a sign-in"


def _can_be_had(entry: Weight, closed: Container[str]) -> bool:
    return not entry.gated and any(address not in closed for address in entry.addresses)


def _why(card: Card, missing: list[Weight], better: list[str]) -> str:
    """better: those before it, whose weights cannot be had."""
    if missing:
        known = [entry.bytes for entry in missing if entry.bytes is not None]
        size = f"{'about' if len(known) == len(missing) else 'more than'} {sum(known) / 1e6:.0f} MB"
        where = f"{', '.join(entry.name for entry in missing)} can be fetched ({size})"
    else:
        where = "its weights are on this machine"
    first = f"; {', '.join(better)} cannot be had without a network" if better else ""
    return f"the best published ({card.mean:.1f} mIoU on average) that can be had: {where}{first}"
