"""Masks as polygons: exact outlines along the edges of pixels, then as few points as a tolerance allows.

Pixel (row, column) is the square from (column, row) to (column + 1, row + 1), so the outline of a mask encloses its
pixels and nothing else, and a polygon of tolerance 0 gives the very mask back.
"""

import numpy as np
from scipy.spatial import cKDTree

Ring = np.ndarray
"""(n, 2) corners as x, y; the last is joined to the first."""


def outlines(mask: np.ndarray) -> list[Ring]:
    """Return the rings of a mask (H, W): outer ones have a positive area, holes a negative one.

    A connected part (along rows and columns) has one outer ring. Holes that touch at a corner share a ring.
    """
    inside = np.pad(mask.astype(bool), 1)
    nw, ne, sw, se = inside[:-1, :-1], inside[:-1, 1:], inside[1:, :-1], inside[1:, 1:]
    odd = nw ^ ne ^ sw ^ se
    falling, rising = nw & se & ~ne & ~sw, ne & sw & ~nw & ~se  # two parts meet corner to corner
    rows, columns, along, down = (
        np.concatenate(parts)
        for parts in zip(
            _corners(odd, 0, 0),
            _corners(falling, 0, 0),
            _corners(falling, 1, 1),
            _corners(rising, 1, 0),
            _corners(rising, 0, 1),
            strict=True,
        )
    )
    beside = _mates(np.lexsort((along, columns, rows)))
    below = _mates(np.lexsort((down, rows, columns)))
    return [_oriented(np.stack([columns[ring], rows[ring]], axis=1), mask) for ring in _cycles(beside, below)]


def _corners(where: np.ndarray, along: int, down: int) -> tuple[np.ndarray, ...]:
    """Corners with their rank among the corners of one place: along its row, and down its column."""
    rows, columns = np.nonzero(where)
    return rows, columns, np.full(len(rows), along), np.full(len(rows), down)


def _mates(order: np.ndarray) -> list[int]:
    """In a row (or column) the corners are, by turns, an edge's beginning and its end."""
    mates = np.empty(len(order), np.int64)
    mates[order[0::2]], mates[order[1::2]] = order[1::2], order[0::2]
    found: list[int] = mates.tolist()
    return found


def _cycles(beside: list[int], below: list[int]) -> list[list[int]]:
    seen = bytearray(len(beside))
    cycles = []
    for start in range(len(beside)):
        if seen[start]:
            continue
        cycle, corner = [], start
        while not seen[corner]:
            other = beside[corner]
            seen[corner] = seen[other] = 1
            cycle += [corner, other]
            corner = below[other]
        cycles.append(cycle)
    return cycles


def _oriented(ring: Ring, mask: np.ndarray) -> Ring:
    """Return a ring the right way round. Of an outer one the topmost, leftmost corner is that of a pixel inside."""
    x, y = ring[np.lexsort((ring[:, 0], ring[:, 1]))[0]]
    is_outer = y < mask.shape[0] and x < mask.shape[1] and bool(mask[y, x])
    return ring if (signed_area(ring) > 0) == is_outer else ring[::-1]


def signed_area(ring: Ring) -> float:
    """Return the area, by the shoelace formula."""
    x, y = ring[:, 0].astype(np.float64), ring[:, 1].astype(np.float64)
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def simplified(ring: Ring, tolerance: float) -> Ring:
    """Fewer corners, none of those left out further than `tolerance` pixels away (Douglas and Peucker, 1973).

    A ring that this would flatten to a line stays as it is.
    """
    if tolerance <= 0 or len(ring) <= 4:
        return ring
    points = ring.astype(np.float64)
    far = int(((points - points[0]) ** 2).sum(axis=1).argmax())
    closed = np.concatenate([points, points[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, -1]] = True
    waiting = [(0, far), (far, len(closed) - 1)]
    while waiting:
        first, last = waiting.pop()
        if last - first < 2:
            continue
        distances = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(distances.argmax())
        if distances[worst] > tolerance:
            middle = first + 1 + worst
            keep[middle] = True
            waiting += [(first, middle), (middle, last)]
    fewer = ring[keep[:-1]]
    return fewer if len(fewer) >= 3 and signed_area(fewer) * signed_area(ring) > 0 else ring


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Of points (n, 2) from a stretch of line."""
    along = end - start
    length = float(along @ along)
    share = np.clip((points - start) @ along / length, 0, 1) if length else np.zeros(len(points))
    found: np.ndarray = np.hypot(*(points - start - share[:, None] * along).T)
    return found


def in_one_ring(rings: list[Ring]) -> Ring:
    """Join an outer ring with its holes by cuts of no width, for formats in which a part is one list of points.

    Each cut is walked both ways, so that whoever fills the ring, by parity or by winding, leaves the holes empty.
    """
    outer = max(rings, key=signed_area)
    joined = _Joined(outer)
    for hole in (ring for ring in rings if ring is not outer):
        joined.add(hole)
    return joined.ring()


class _Joined:
    """A ring that grows by holes. Corners are numbered as they come, and where each one leads is kept beside them, so
    that nothing is moved when a hole goes in between.

    The nearest corner is asked of trees, each over the corners of some holes: two of about one size become one, so
    that there are few of them, and no corner is put into one often.
    """

    def __init__(self, outer: Ring):
        self._corners = [outer]
        self._after = [*range(1, len(outer)), -1]
        self._trees: list[tuple[cKDTree, np.ndarray]] = []  # with the numbers of its corners
        self._plant(outer, np.arange(len(outer)))

    def add(self, hole: Ring) -> None:
        here, there = self._nearest(hole)
        count, start = len(hole), len(self._after)
        # The hole from its own corner around to that corner again, and back to the corner that it was joined at.
        self._corners += [np.roll(hole, -there, axis=0), hole[there : there + 1], self._corner(here)[None]]
        self._after += [*range(start + 1, start + count + 2), self._after[here]]
        self._after[here] = start
        self._plant(self._corners[-3], np.arange(start, start + count))

    def ring(self) -> Ring:
        order, corner = [], 0
        while corner >= 0:
            order.append(corner)
            corner = self._after[corner]
        joined: Ring = np.concatenate(self._corners)[order]
        return joined

    def _nearest(self, hole: Ring) -> tuple[int, int]:
        """Return (the ring's corner, the hole's) with the least between them."""
        best, least = (0, 0), np.inf
        for tree, numbers in self._trees:
            gaps, found = tree.query(hole)
            own = int(gaps.argmin())
            if gaps[own] < least:
                best, least = (int(numbers[found[own]]), own), gaps[own]
        return best

    def _corner(self, number: int) -> np.ndarray:
        for tree, numbers in self._trees:
            place = np.searchsorted(numbers, number)
            if place < len(numbers) and numbers[place] == number:
                corner: np.ndarray = tree.data[place].astype(self._corners[0].dtype)
                return corner
        raise IndexError(number)

    def _plant(self, corners: np.ndarray, numbers: np.ndarray) -> None:
        points: np.ndarray = corners.astype(np.float64)
        while self._trees and len(self._trees[-1][1]) <= 2 * len(numbers):
            tree, earlier = self._trees.pop()
            points, numbers = np.concatenate([tree.data, points]), np.concatenate([earlier, numbers])
        self._trees.append((cKDTree(points), numbers))


def polygons_of(mask: np.ndarray, tolerance: float) -> list[Ring]:
    """Return a connected mask as its simplified rings, the outer one first."""
    rings = sorted(outlines(mask), key=signed_area, reverse=True)
    return [simplified(ring, tolerance) for ring in rings]
