"""LPOSS and LPOSS+ by their equations, in loops and double precision, on the solver that the paper names."""

import math

import numpy as np
import scipy.sparse.linalg


def solved(matrix, target, parameters):
    """Z of (I - alpha W) Z = Y by SciPy, one name after another: matrix (N, N), target (N, Q)."""
    system = np.eye(len(matrix)) - parameters.alpha * matrix
    return np.stack(
        [
            scipy.sparse.linalg.cg(system, one, rtol=parameters.tolerance, atol=0.0, maxiter=parameters.iterations)[0]
            for one in target.T
        ],
        axis=1,
    )


def normalised(weights):
    both = weights + weights.T
    np.fill_diagonal(both, 0)
    degrees = both.sum(axis=1)
    degrees[degrees == 0] = 1
    return both / np.sqrt(degrees)[:, None] / np.sqrt(degrees)[None]


def patch_matrix(values, plan, patch, parameters):
    """The paper's graph, patch by patch: values (n, C, h, w)."""
    nodes = []
    for box, window in zip(plan.boxes, values.double().numpy(), strict=True):
        for i, j in np.ndindex(window.shape[1:]):
            vector = window[:, i, j] / np.linalg.norm(window[:, i, j])
            nodes.append((vector, (box.top + patch // 2 + patch * i, box.left + patch // 2 + patch * j)))
    weights = np.zeros((len(nodes), len(nodes)))
    for i, (own, here) in enumerate(nodes):
        cosines = np.array([own @ other for other, _ in nodes])
        for j in np.argsort(-cosines)[: parameters.neighbours]:
            distance = math.dist(here, nodes[j][1])
            weights[i, j] = max(cosines[j], 0) ** parameters.sharpness * math.exp(-parameters.falloff * distance)
    return normalised(weights)


def plain_lab(pixel):
    """CIE 1976 of an sRGB pixel under D65, by the book."""
    linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in pixel]
    rows = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))
    xyz = [sum(a * b for a, b in zip(row, linear, strict=True)) for row in rows]
    f = [
        t ** (1 / 3) if t > 0.008856 else 7.787 * t + 16 / 116
        for t in (value / white for value, white in zip(xyz, (0.95047, 1.0, 1.08883), strict=True))
    ]
    return (116 * f[1] - 16) / 100, 500 * (f[0] - f[1]) / 128, 200 * (f[1] - f[2]) / 128


def pixel_matrix(image, parameters):
    _, height, width = image.shape
    colours = [plain_lab(image[:, y, x].tolist()) for y, x in np.ndindex(height, width)]
    weights = np.zeros((height * width, height * width))
    for a, b in np.ndindex(weights.shape):
        down, across = abs(a // width - b // width), abs(a % width - b % width)
        if a != b and max(down, across) <= parameters.reach:
            weights[a, b] = math.exp(-math.dist(colours[a], colours[b]) / parameters.colours)
    return normalised(weights / 2)  # which adds the other half
