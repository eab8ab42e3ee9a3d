"""A stack of transformer blocks in int8, on processors: ONNX Runtime multiplies, and torch does what lies around it.

Weights have a scale for each output, tokens one each, found as they come: what is said of a token hangs on nothing else
in the batch. Norms, attention's products, activations and sums stay in single precision.
"""

import threading
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wordmask.compute import INT8_PACKAGES
from wordmask.encoders.int8_blocks import QUICK, Block, Layer, Linear, Norm, Rotation, Smoothed, Stacked, Turns
from wordmask.extras import need

OPSET, IR_VERSION = 18, 9
RUNTIME = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
TOKENS, COSINES, SINES, OUT = "tokens", "cosines", "sines", "out"
LEAST_SCALE = 1e-12


@dataclass(frozen=True)
class Bytes:
    """How a token's numbers become unsigned bytes, the form that processors multiply by signed ones: zero is at
    `middle`, and the least number is no less than `least`, where that is known.
    """

    middle: int
    least: float | None = None


AROUND_ZERO = Bytes(128)
ACTIVATED = Bytes(16, 0.17)
"""Both activations have no number below -0.17, so that nearly all bytes are left for those above zero."""


@dataclass(frozen=True)
class Int8Linear:
    """A layer whose weight is `weight * scales`."""

    weight: np.ndarray  # (in, out) int8
    scales: np.ndarray  # (out,)
    bias: np.ndarray  # (out,)

    @classmethod
    def of(cls, layer: Linear, mean: Tensor) -> "Int8Linear":
        """mean: of what the layer reads (in,). What rounding the weights makes of it goes into the bias, so that
        outputs are not moved for all tokens alike.
        """
        weight = layer.weight.numpy()
        scales = np.maximum(np.abs(weight).max(axis=1) / 127, LEAST_SCALE).astype(np.float32)
        whole = np.rint(weight / scales[:, None]).astype(np.int8)
        moved = (weight - whole * scales[:, None]) @ mean.numpy()
        return cls(np.ascontiguousarray(whole.T), scales, layer.bias.numpy() + moved)


class Int8Stack:
    """Blocks in int8. Threads may ask at once."""

    def __init__(self, blocks: Iterable[Smoothed]):
        need(*INT8_PACKAGES)
        self._blocks, self._scales = [], []
        for own in blocks:
            self._blocks.append(_quantised(own))
            self._scales.append(own.scale.numpy())
        self._alone = threading.Lock()
        self._session: Any = None
        self._taps: frozenset[str] = frozenset()

    def __call__(
        self, x: Tensor, turns: Turns | None = None, *, outputs: Collection[int] = (), normed: Collection[int] = ()
    ) -> Stacked:
        """Take tokens (B, N, C) through all blocks. outputs, normed: blocks, from 0, of which more is wanted."""
        names = [*(f"output_{index}" for index in outputs), *(f"normed_{index}" for index in normed)]
        feed = {TOKENS: x.detach().float().contiguous().numpy()}
        if turns is not None:
            feed |= {COSINES: self._arranged(turns.cosines), SINES: self._arranged(turns.sines)}
        ran = self._session_with(names).run([OUT, *names], feed)
        found = dict(zip([OUT, *names], map(torch.from_numpy, ran), strict=True))
        return Stacked(
            found[OUT],
            {index: found[f"output_{index}"] for index in outputs},
            {index: found[f"normed_{index}"] for index in normed},
        )

    def _arranged(self, table: Tensor) -> np.ndarray:
        if self._blocks[0].rotation == "pairs":
            table = table[:, halves_of_pairs(table.shape[1], 1)]
        return table.contiguous().numpy()

    def _session_with(self, taps: Collection[str]) -> Any:
        """Return a session that gives these, beside those asked for before: each one is kept by every run, and methods
        ask for the same ones always.
        """
        with self._alone:
            if self._session is None or not self._taps.issuperset(taps):
                self._taps |= frozenset(taps)
                self._session = None  # memory for one is enough
                self._session = _session_of(graph_of(self._blocks, self._scales, self._taps))
            return self._session


def _quantised(smoothed: Smoothed) -> Block[Int8Linear]:
    block, (first, mixed, second, hidden) = smoothed.block, smoothed.means
    made = {
        "query": Int8Linear.of(_arranged(block.query, block), first),
        "key": Int8Linear.of(_arranged(block.key, block), first),
        "value": Int8Linear.of(block.value, first),
        "out": Int8Linear.of(block.out, mixed),
        "expand": Int8Linear.of(block.expand, second),
        "contract": Int8Linear.of(block.contract, hidden),
    }
    return replace(block, **made)  # type: ignore[arg-type, return-value]


def _arranged(layer: Linear, block: Block[Linear]) -> Linear:
    """Return queries or keys with the channels that turn together in both halves of a head, wherever they were."""
    if block.rotation != "pairs":
        return layer
    order = halves_of_pairs(block.width, block.heads)
    return Linear(layer.weight[order], layer.bias[order])


def halves_of_pairs(width: int, heads: int) -> Tensor:
    """Return the order of channels that brings neighbours of a head to the same place in its halves."""
    head = torch.arange(width).view(heads, -1)
    return torch.cat([head[:, ::2], head[:, 1::2]], dim=1).flatten()


def _session_of(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_mem_pattern = False  # one is kept for every shape, and pictures have many
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def graph_of(blocks: list[Block[Int8Linear]], scales: list[np.ndarray], taps: Collection[str] = ()) -> bytes:
    """Return the stack as an ONNX model, for batches and numbers of tokens of any size. scales: of each block, what
    its norm_2 was divided by. taps: "output_I" and "normed_I" of blocks I.
    """
    from onnx import TensorProto, helper

    writer = _Writer(blocks[0])
    x = writer.node("Reshape", TOKENS, writer.rows)
    for index, (block, scale) in enumerate(zip(blocks, scales, strict=True)):
        x, normed = writer.block(x, block)
        if f"normed_{index}" in taps:
            writer.output(f"normed_{index}", writer.node("Mul", normed, writer.constant(scale)))
        if f"output_{index}" in taps:
            writer.output(f"output_{index}", x)
    writer.output(OUT, x)

    def told(name: str, *shape: str | int) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    inputs = [told(TOKENS, "batch", "tokens", writer.width)]
    if writer.rotation is not None:
        inputs += [told(name, "tokens", writer.width // writer.heads) for name in (COSINES, SINES)]
    outputs = [told(name, "batch", "tokens", writer.width) for name in (OUT, *sorted(taps))]
    graph = helper.make_graph(writer.nodes, "blocks", inputs, outputs, writer.constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(RUNTIME, 1)]
    model: bytes = helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString()
    return model


@dataclass(frozen=True)
class _Read:
    """Tokens as bytes, with the scale of each."""

    values: str  # (B*N, C) uint8
    scales: str  # (B*N, 1)
    middle: int


class _Writer:
    """Writes the nodes of a graph. All but attention goes by rows, (B*N, C)."""

    def __init__(self, like: Block[Layer]):
        self.width, self.heads, self.rotation = like.width, like.heads, like.rotation
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self.shape = self.node("Shape", TOKENS)
        self.rows = self.constant(np.array([-1, self.width]))

    def block(self, x: str, block: Block[Int8Linear]) -> tuple[str, str]:
        """Return the block's output, and what its MLP reads."""
        read = self.read(self.norm(x, block.norm_1))
        q, k = (self.placed(self.linear(read, own), block.rotation) for own in (block.query, block.key))
        v = self.node("Reshape", self.linear(read, block.value), self.shape)
        mixed = self.node("MultiHeadAttention", q, k, v, domain=RUNTIME, num_heads=self.heads)
        x = self.node("Add", x, self.linear(self.read(self.node("Reshape", mixed, self.rows)), block.out))
        normed = self.norm(x, block.norm_2)
        hidden = self.linear(self.read(normed), block.expand)
        if block.activation == "gelu":
            hidden = self.node("Gelu", hidden, domain=RUNTIME)
        else:
            hidden = self.node("QuickGelu", hidden, domain=RUNTIME, alpha=QUICK)
        return self.node("Add", x, self.linear(self.read(hidden, ACTIVATED), block.contract)), normed

    def read(self, x: str, way: Bytes = AROUND_ZERO) -> _Read:
        """Rows (B*N, C) as bytes, each as finely as its largest number allows."""
        last = self.constant(np.array([-1]))
        largest = self.node("ReduceMax", x if way.least is not None else self.node("Abs", x), last, keepdims=0)
        scales = self.node("Mul", largest, self.constant(np.float32(1 / (255 - way.middle))))
        least = LEAST_SCALE if way.least is None else way.least / way.middle
        scales = self.node("Max", scales, self.constant(np.float32(least)))
        middle = self.node("Expand", self.constant(np.array([way.middle], np.uint8)), self.node("Shape", scales))
        values = self.node("QuantizeLinear", x, scales, middle, axis=0)
        return _Read(values, self.node("Unsqueeze", scales, self.constant(np.array([1]))), way.middle)

    def linear(self, x: _Read, layer: Int8Linear) -> str:
        one, middle, zero = (self.constant(own) for own in (np.float32(1), np.uint8(x.middle), np.int8(0)))
        weight, scales = self.constant(layer.weight), self.constant(layer.scales)
        out = self.node("MatMulIntegerToFloat", x.values, weight, one, scales, middle, zero, domain=RUNTIME)
        return self.node("Add", self.node("Mul", out, x.scales), self.constant(layer.bias))

    def norm(self, x: str, norm: Norm) -> str:
        gain, bias = self.constant(norm.gain.numpy()), self.constant(norm.bias.numpy())
        return self.node("LayerNormalization", x, gain, bias, axis=-1, epsilon=norm.epsilon)

    def placed(self, rows: str, rotation: Rotation | None) -> str:
        """Rows (B*N, C) -> (B, N, C), each token turned to its place."""
        if rotation is None:
            return self.node("Reshape", rows, self.shape)
        head = self.width // self.heads
        zero, half, whole, two, last = (self.constant(np.array([own])) for own in (0, head // 2, head, 2, 3))
        counts = self.node("Slice", self.shape, zero, two)
        x = self.node("Reshape", rows, self.node("Concat", counts, self.constant(np.array([self.heads, head])), axis=0))
        first, second = self.node("Slice", x, zero, half, last), self.node("Slice", x, half, whole, last)
        other = self.node("Concat", self.node("Neg", second), first, axis=-1)  # (B, N, heads, d)
        cosines, sines = (self.node("Unsqueeze", own, self.constant(np.array([1]))) for own in (COSINES, SINES))
        x = self.node("Add", self.node("Mul", x, cosines), self.node("Mul", other, sines))
        return self.node("Reshape", x, self.shape)

    def output(self, name: str, rows: str) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node("Reshape", [rows, self.shape], [name]))

    def constant(self, value: np.ndarray | np.generic) -> str:
        from onnx import numpy_helper

        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        name = f"node_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], domain=domain, **attributes))
        return name
