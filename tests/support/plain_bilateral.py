"""The bilateral solver's published equations written out twice, from the paper and for checking alone.

`solve_plain` takes one pixel, one cell and one neighbour at a time, in dictionaries and dense matrices. `solve_sparse`
is the usual NumPy reading: floating-point cell numbers, a splatting matrix and one sparse matrix a dimension, all of
it anew for every map. Cells are found from floating-point colours, rounded to nine decimals before the floor: the
coefficients have six, so the rounding is exact and takes away nothing but noise.
"""

import math

import numpy as np
from scipy.sparse import csr_matrix, diags, identity

SPATIAL, LUMA, CHROMA = 16, 16, 8
SMOOTHNESS, FLOOR, TOLERANCE, ITERATIONS, ROUNDS = 256, 1e-5, 1e-5, 25, 10
DECIMALS = 9


def yuv_of(image):
    r, g, b = np.moveaxis(image.astype(np.float64), -1, 0)
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    u = -0.168736 * r - 0.331264 * g + 0.5 * b + 128
    v = 0.5 * r - 0.418688 * g - 0.081312 * b + 128
    return luma, u, v


def preconditioned_cg(matrix, b, x, diagonal):
    """Textbook conjugate gradients with Jacobi's preconditioner, until the residual is 1e-5 of b or for 25 rounds."""
    residual = b - matrix @ x
    direction, rho = None, 1.0
    for _ in range(ITERATIONS):
        if np.linalg.norm(residual) <= TOLERANCE * np.linalg.norm(b):
            break
        z = residual / np.maximum(diagonal, FLOOR)
        previous, rho = rho, residual @ z
        direction = z if direction is None else z + rho / previous * direction
        through = matrix @ direction
        step = rho / (direction @ through)
        x = x + step * direction
        residual = residual - step * through
    return x


def solve_plain(image, target, confidence=0.999):
    height, width = target.shape
    luma, u, v = yuv_of(image)
    number, cell_of = {}, {}
    for i in range(height):
        for j in range(width):
            colour = [round(x / s, DECIMALS) for x, s in ((luma[i, j], LUMA), (u[i, j], CHROMA), (v[i, j], CHROMA))]
            cell = (i // SPATIAL, j // SPATIAL, *(math.floor(c) for c in colour))
            cell_of[i, j] = number.setdefault(cell, len(number))
    count = len(number)
    blur = np.zeros((count, count))
    for cell, place in number.items():
        for axis in range(5):
            blur[place, place] += 2
            for step in (-1, 1):
                other = number.get((*cell[:axis], cell[axis] + step, *cell[axis + 1 :]))
                if other is not None:
                    blur[place, other] += 1
    pixels, weight, wanted = np.zeros(count), np.zeros(count), np.zeros(count)
    trust = np.broadcast_to(confidence, target.shape)
    for at, place in cell_of.items():
        pixels[place] += 1
        weight[place] += trust[at]
        wanted[place] += trust[at] * target[at]
    n = np.ones(count)
    for _ in range(ROUNDS):
        n = np.sqrt(n * pixels / (blur @ n))
    m = n * (blur @ n)
    matrix = SMOOTHNESS * (np.diag(m) - np.diag(n) @ blur @ np.diag(n)) + np.diag(weight)
    start = np.array([wanted[k] / weight[k] if weight[k] > 0 else 0.0 for k in range(count)])
    solution = preconditioned_cg(matrix, wanted, start, np.diag(matrix))
    out = np.zeros(target.shape)
    for at, place in cell_of.items():
        out[at] = solution[place]
    return out


def solve_sparse(image, target, confidence=0.999):
    height, width = target.shape
    luma, u, v = yuv_of(image)
    y, x = np.mgrid[:height, :width]
    planes = [y / SPATIAL, x / SPATIAL, *(np.round(c, DECIMALS) for c in (luma / LUMA, u / CHROMA, v / CHROMA))]
    coordinates = np.stack([np.floor(plane).ravel() for plane in planes], axis=1)  # (pixels, 5)
    spread = 255.0 ** np.arange(5)
    numbers, first, cell = np.unique(coordinates @ spread, return_index=True, return_inverse=True)
    coordinates = coordinates[first]
    count = len(numbers)
    splat = csr_matrix((np.ones(cell.size), (cell.ravel(), np.arange(cell.size))), shape=(count, cell.size))
    blurs = []
    for axis in range(5):
        matrix = csr_matrix((count, count))
        for step in (-1, 1):
            moved = coordinates.copy()
            moved[:, axis] += step
            sought = moved @ spread
            place = np.clip(np.searchsorted(numbers, sought), 0, count - 1)
            known = np.flatnonzero(numbers[place] == sought)
            matrix = matrix + csr_matrix((np.ones(len(known)), (known, place[known])), shape=(count, count))
        blurs.append(matrix)

    def blur(values):
        out = 10 * values
        for matrix in blurs:
            out = out + matrix @ values
        return out

    pixels = splat @ np.ones(cell.size)
    n = np.ones(count)
    for _ in range(ROUNDS):
        n = np.sqrt(n * pixels / blur(n))
    m = n * blur(n)
    trust = np.full(cell.size, confidence) if np.isscalar(confidence) else confidence.ravel()
    weight = splat @ trust
    matrix = SMOOTHNESS * (diags(m) - diags(n) @ blur(identity(count, format="csr")) @ diags(n)) + diags(weight)
    matrix = matrix.tocsr()
    wanted = splat @ (trust * target.ravel())
    solution = preconditioned_cg(matrix, wanted, wanted / weight, matrix.diagonal())
    return (splat.T @ solution).reshape(target.shape)
