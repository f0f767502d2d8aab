"""The nearest orthogonal matrices of many matrices at once, approximately."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

# Coefficients a, b, c of the quintic a x + b x^3 + c x^5 that maps singular values from 0 .. 1 to about 1 (Jordan et
# al. 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5
# Matrices of different shapes share a stack if its zeros add at most this share to the arithmetic of all of them.
PADDING = 0.5
# A CPU needs as long for zeros as for other numbers, and less for a call.
PADDING_ON_CPU = 0.05

Shape = Sequence[int]


@dataclass(frozen=True)
class Stack:
    """Matrices that are computed together, padded with zeros to one shape.

    Attributes
    ----------
    rows, columns : int
        Shape of each matrix, rows not above columns.
    members : tuple of int
        Which of the shapes are in it.
    """

    rows: int
    columns: int
    members: tuple[int, ...]

    @property
    def work(self) -> float:
        """Multiplications of an iteration."""
        return len(self.members) * float(2 * self.rows**2 * self.columns + self.rows**3)

    def joined(self, other: Stack) -> Stack:
        """Return the stack of the matrices of both."""
        members = tuple(sorted(self.members + other.members))
        return Stack(max(self.rows, other.rows), max(self.columns, other.columns), members)


def stacks_of(shapes: Sequence[Shape], padding: float = PADDING) -> list[Stack]:
    """Return stacks of matrices of these shapes: as few as the limit of padding allows.

    A GPU computes a stack as soon as one of its matrices, and each stack needs its own calls. Zeros that fill up rows
    and columns stay zeros in products, and leave the others as they are.

    Parameters
    ----------
    shapes : sequence of sequence of int
        Of tensors with two or more axes; those after the first count as one.
    padding : float
        Largest share that zeros add to the arithmetic.
    """
    stacks: dict[tuple[int, int], Stack] = {}
    for number, shape in enumerate(shapes):
        rows, columns = sorted((shape[0], math.prod(shape[1:])))
        single = Stack(rows, columns, (number,))
        stacks[rows, columns] = stacks[rows, columns].joined(single) if (rows, columns) in stacks else single
    found = list(stacks.values())
    spare = padding * sum(stack.work for stack in found)
    while len(found) > 1:
        pairs = [(one, other) for place, one in enumerate(found) for other in found[:place]]
        extra, pair = min(
            ((one.joined(other).work - one.work - other.work, (one, other)) for one, other in pairs),
            key=lambda candidate: candidate[0],
        )
        if extra > spare:
            break
        spare -= extra
        found = [stack for stack in found if stack not in pair] + [pair[0].joined(pair[1])]
    return found


class Orthogonaliser:
    """Approximates U V' for matrices U S V' of fixed shapes, in buffers that stay in place.

    Five Newton-Schulz iterations from X = M / |M|: ``X <- a X + b A X + c A A X`` with A = X X'. The singular values of
    the result are in 0.7 .. 1.2, except those that were far below the largest. The matrix of a tensor with more than
    two axes has its first axis as rows, or as columns if it is the longer one.

    Stacks change the order in which products are added up, and nothing else: with float32, results are within 1e-5 of
    those of each matrix by itself; with bfloat16 within 0.05, which is the precision of these products.

    Parameters
    ----------
    shapes : sequence of sequence of int
    dtype : torch.dtype
        Number format of the products.
    device : torch.device
    """

    def __init__(self, shapes: Sequence[Shape], dtype: torch.dtype, device: torch.device) -> None:
        padding = PADDING_ON_CPU if device.type == "cpu" else PADDING
        self.pieces = [_Piece(stack, dtype, device) for stack in stacks_of(shapes, padding)]
        inputs, results = {}, {}
        for piece in self.pieces:
            for place, number in enumerate(piece.stack.members):
                inputs[number] = _view(piece.start[place], shapes[number])
                results[number] = _view(piece.odd[place], shapes[number])
        self.inputs = [inputs[number] for number in range(len(shapes))]
        self.results = [results[number] for number in range(len(shapes))]

    def __call__(self, tensors: list[torch.Tensor]) -> list[torch.Tensor]:
        """Return the approximations, each of the shape of its tensor and the dtype of the products.

        Parameters
        ----------
        tensors : list of torch.Tensor
            They are overwritten. Zeros stay zeros.

        Returns
        -------
        list of torch.Tensor
            Views of buffers, which the next call overwrites.
        """
        norms = torch._foreach_norm(tensors)
        torch._foreach_clamp_min_(norms, 1e-30)
        torch._foreach_div_(tensors, norms)
        torch._foreach_copy_(self.inputs, tensors)
        for piece in self.pieces:
            piece.iterate()
        return self.results


class _Piece:
    """The buffers of a stack: the matrices, results of odd and even iterations, and the square matrices."""

    def __init__(self, stack: Stack, dtype: torch.dtype, device: torch.device) -> None:
        self.stack = stack
        count = len(stack.members)
        zeros = [torch.zeros(count, stack.rows, stack.columns, dtype=dtype, device=device) for _ in range(3)]
        self.start, self.odd, self.even = zeros
        self.squares, self.factors = (
            torch.zeros(count, stack.rows, stack.rows, dtype=dtype, device=device) for _ in range(2)
        )

    def iterate(self) -> None:
        """Compute the approximations of `start` in `odd`."""
        a, b, c = QUINTIC
        x = self.start
        for number in range(ITERATIONS):
            result = self.even if number % 2 else self.odd
            torch.bmm(x, x.mT, out=self.squares)
            torch.baddbmm(self.squares, self.squares, self.squares, beta=b, alpha=c, out=self.factors)
            torch.baddbmm(x, self.factors, x, beta=a, out=result)
            x = result


def _view(slot: torch.Tensor, shape: Shape) -> torch.Tensor:
    """Return the part of a matrix of a stack that a tensor of a shape fills, as a view of this shape."""
    rows, columns = shape[0], math.prod(shape[1:])
    part = slot[:rows, :columns] if rows <= columns else slot[:columns, :rows].T
    return part.unflatten(1, list(shape[1:]))


def orthogonalised(matrix: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """Return an approximation of U V' for a matrix U S V', with the same shape and dtype; 0 for a matrix of zeros.

    Parameters
    ----------
    matrix : torch.Tensor, shape (p, q)
    dtype : torch.dtype
        Number format of the products.
    """
    (result,) = Orthogonaliser([matrix.shape], dtype, matrix.device)([matrix.clone()])
    return result.to(matrix.dtype)
