"""Birds: standing, swimming and on the wing. All look to the right."""

from __future__ import annotations

from wordmask_world.drawing.dice import Dice
from wordmask_world.drawing.sketch import Role, Sketch


def _head(dice: Dice, sketch: Sketch, x: float, y: float, r: float) -> None:
    beak = dice.between(0.9, 1.9) * r
    hook = dice.between(-0.1, 0.4) * r
    bill = dice.pick((Role.ACCENT, Role.ACCENT, Role.DARK))
    if dice.chance(0.25):
        for lean in (-0.5, -0.1, 0.25):
            sketch.limb(
                Role.SECOND, (x - r * 0.1, y - r * 0.7), (x + lean * r - r * 0.4, y - r * 1.7), r * 0.2, r * 0.12
            )
    sketch.poly(bill, [(x + r * 0.7, y - r * 0.35), (x + r + beak, y + hook), (x + r * 0.65, y + r * 0.4)])
    sketch.dot(dice.pick((Role.MAIN, Role.MAIN, Role.SECOND)), x, y, r)
    sketch.dot(Role.LIGHT, x + r * 0.32, y - r * 0.18, r * 0.27)
    sketch.dot(Role.DARK, x + r * 0.36, y - r * 0.18, r * 0.16)


def _feathered(sketch: Sketch, role: int, root: tuple[float, float], tip: tuple[float, float], chord: float) -> None:
    """A spread wing with a smooth leading edge and notches behind."""
    (x0, y0), (x1, y1) = root, tip
    points = [(x0 + chord * 0.55, y0), ((x0 + x1) / 2 + chord * 0.6, (y0 + y1) / 2), (x1, y1)]
    for share in (0.25, 0.5, 0.75):
        x, y = x1 + (x0 - x1) * share, y1 + (y0 - y1) * share
        points.append((x - chord * (0.25 + 0.5 * share), y + chord * 0.1))
        points.append((x - chord * (0.05 + 0.45 * share), y + chord * 0.05))
    points.append((x0 - chord * 0.6, y0 + chord * 0.1))
    sketch.poly(role, points)


def bird(dice: Dice) -> Sketch:
    """A drop of a body with tail, wing, beak; two thin legs, none afloat, or two spread wings in flight."""
    sketch = Sketch()
    pose = dice.weighted({"standing": 0.5, "flying": 0.3, "afloat": 0.2})
    wing = dice.pick((Role.SECOND, Role.FAR, Role.ACCENT))
    if pose == "flying":
        long, thick = dice.between(0.34, 0.46), dice.between(0.1, 0.15)
        span, chord, lean = dice.between(0.5, 0.75), dice.between(0.2, 0.3), dice.between(-0.3, 0.1)
        down = dice.chance(0.25)
        _feathered(
            sketch, Role.SECOND_FAR if wing == Role.SECOND else Role.FAR, (0.06, -0.05), (lean + 0.28, -span), chord
        )
        fan = dice.between(0.08, 0.16)
        sketch.poly(wing, [(-long + 0.1, -0.02), (-long - 0.22, -fan), (-long - 0.25, 0.02), (-long - 0.2, fan)])
        sketch.blob(
            Role.MAIN,
            [
                (-long, 0),
                (-long * 0.3, -thick),
                (long * 0.5, -thick * 0.9),
                (long, -0.03),
                (long * 0.6, thick * 0.8),
                (-long * 0.3, thick * 0.75),
            ],
        )
        _head(dice, sketch, long, -0.05, thick * dice.between(0.75, 0.95))
        reach = span * dice.between(0.8, 1.0) * (1 if down else -1)
        _feathered(sketch, wing, (0, 0.0), (lean - 0.05, reach), chord)
        return sketch
    round_ = dice.between(0.2, 0.32)
    tilt = dice.between(-0.6, -0.05) if pose == "standing" else dice.between(-0.15, 0)
    leg = dice.between(0.12, 0.34) if pose == "standing" else -round_ * 0.35
    y = -leg - round_
    tail = dice.between(0.15, 0.4)
    length = dice.between(0.34, 0.42)

    def at(forward: float, up: float) -> tuple[float, float]:
        """Along the body's axis, which rises towards the head."""
        return forward + up * tilt * 0.6, y - up + forward * tilt

    if pose == "standing":
        limb = dice.pick((Role.ACCENT, Role.DARK))
        for x in (-0.03, 0.1):
            sketch.limb(limb, (x, y), (x + 0.02, -0.015), 0.03)
            sketch.limb(limb, (x - 0.04, -0.015), (x + 0.1, -0.015), 0.028)
    sketch.poly(
        wing,
        [at(-length * 0.6, 0.09), at(-length - tail, 0.1), at(-length - tail * 0.9, -0.05), at(-length * 0.6, -0.09)],
    )
    sketch.blob(
        Role.MAIN,
        [
            at(-length, 0),
            at(-length * 0.45, round_ * 0.8),
            at(length * 0.35, round_),
            at(length, round_ * 0.3),
            at(length * 0.85, -round_ * 0.6),
            at(length * 0.2, -round_),
            at(-length * 0.5, -round_ * 0.65),
        ],
    )
    if dice.chance(0.5):
        x, low = at(length * 0.55, -round_ * 0.3)
        sketch.ellipse(Role.LIT, x, low, round_ * 0.5, round_ * 0.62)
    r = dice.between(0.13, 0.18)
    neck = dice.between(0.0, 0.14) if dice.chance(0.7) else dice.between(0.2, 0.36)
    x, top = at(length * 0.85, round_ * 0.75)
    if neck > 0.05:
        sketch.curve(Role.MAIN, [at(length * 0.6, 0), (x, top), (x + 0.07, top - neck)], r * 1.6, r * 1.25)
    _head(dice, sketch, x + 0.07, top - neck - r * 0.25, r)
    sketch.blob(
        wing,
        [
            at(length * 0.4, round_ * 0.35),
            at(-length * 0.2, round_ * 0.5),
            at(-length * 1.1, 0.05),
            at(-length * 0.3, -round_ * 0.4),
            at(length * 0.3, -round_ * 0.3),
        ],
    )
    return sketch
