"""A stack of transformer blocks in int8, on processors: ONNX Runtime multiplies, and torch does what lies around it.

Weights have a scale for each output, tokens one each, found as they come: what is said of a token hangs on nothing else
in the batch. Norms, attention's products, activations and sums stay in single precision.
"""

import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wordmask.compute import INT8_PACKAGES
from wordmask.encoders.int8_blocks import QUICK, Activation, Block, Layer, Norm, Rotation, Stacked, Turns
from wordmask.encoders.int8_calibration import ACTIVATED, AROUND_ZERO, Bytes, Int8Block, Int8Linear
from wordmask.extras import need

OPSET, IR_VERSION = 18, 9
RUNTIME = "com.microsoft"
"""The domain of ONNX Runtime's own operators."""
TOKENS, COSINES, SINES, OUT = "tokens", "cosines", "sines", "out"


class Int8Stack:
    """Blocks in int8. Threads may ask at once."""

    def __init__(self, blocks: Sequence[Int8Block]):
        need(*INT8_PACKAGES)
        self._blocks = list(blocks)
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
        if self._blocks[0].block.rotation == "pairs":
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
                self._session = _session_of(graph_of(self._blocks, self._taps))
            return self._session


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


def graph_of(blocks: Sequence[Int8Block], taps: Collection[str] = ()) -> bytes:
    """Return the stack as an ONNX model, for batches and numbers of tokens of any size. taps: "output_I" and "normed_I"
    of blocks I.
    """
    from onnx import TensorProto, helper

    writer = _Writer(blocks[0].block)
    x = writer.node("Reshape", TOKENS, writer.rows)
    for index, own in enumerate(blocks):
        x, normed = writer.block(x, own)
        if f"normed_{index}" in taps:
            wide = writer.node("Mul", normed, writer.constant(own.scale.numpy()))
            writer.output(f"normed_{index}", writer.node("Add", wide, writer.constant(own.shift.numpy())))
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

    def block(self, x: str, own: Int8Block) -> tuple[str, str]:
        """Return the block's output, and what its norm_2 gives."""
        block = own.block
        read = self.read(self.norm(x, block.norm_1))
        q, k = (
            self.placed(self.linear(read, self.arranged(each)), block.rotation) for each in (block.query, block.key)
        )
        v = self.node("Reshape", self.linear(read, block.value), self.shape)
        mixed = self.node("MultiHeadAttention", q, k, v, domain=RUNTIME, num_heads=self.heads)
        x = self.node("Add", x, self.linear(self.read(self.node("Reshape", mixed, self.rows)), block.out))
        normed = self.norm(x, block.norm_2)
        weight, bias = (self.constant(each.numpy()) for each in (own.loud_in.weight, own.loud_in.bias))
        loud = self.activated(self.node("Gemm", normed, weight, bias, transB=1), block.activation)
        x = self.node("Gemm", loud, self.constant(own.loud_out.numpy()), x, transB=1)
        hidden = self.activated(self.linear(self.read(normed), block.expand), block.activation)
        return self.node("Add", x, self.linear(self.read(hidden, ACTIVATED), block.contract)), normed

    def activated(self, x: str, activation: Activation) -> str:
        if activation == "gelu":
            return self.node("Gelu", x, domain=RUNTIME)
        return self.node("QuickGelu", x, domain=RUNTIME, alpha=QUICK)

    def arranged(self, layer: Int8Linear) -> Int8Linear:
        """Return queries or keys with the channels that turn together in both halves of a head, wherever they were."""
        return layer[halves_of_pairs(self.width, self.heads)] if self.rotation == "pairs" else layer

    def read(self, x: str, way: Bytes = AROUND_ZERO) -> _Read:
        """Rows (B*N, C) as bytes, each as finely as its largest number allows."""
        last = self.constant(np.array([-1]))
        largest = self.node("ReduceMax", x if way.least is not None else self.node("Abs", x), last, keepdims=0)
        scales = self.node("Mul", largest, self.constant(np.float32(1 / (255 - way.middle))))
        scales = self.node("Max", scales, self.constant(np.float32(way.least_scale)))
        middle = self.node("Expand", self.constant(np.array([way.middle], np.uint8)), self.node("Shape", scales))
        values = self.node("QuantizeLinear", x, scales, middle, axis=0)
        return _Read(values, self.node("Unsqueeze", scales, self.constant(np.array([1]))), way.middle)

    def linear(self, x: _Read, layer: Int8Linear) -> str:
        one, middle, zero = (self.constant(own) for own in (np.float32(1), np.uint8(x.middle), np.int8(0)))
        weight, scales = (self.constant(own) for own in (layer.weight.T.contiguous().numpy(), layer.scales.numpy()))
        out = self.node("MatMulIntegerToFloat", x.values, weight, one, scales, middle, zero, domain=RUNTIME)
        return self.node("Add", self.node("Mul", out, x.scales), self.constant(layer.bias.numpy()))

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
