"""TFLite models of one operator, made in memory with the schema that LiteRT brings, run by its reference kernels."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter, OpResolverType

_TYPES = {name: getattr(schema.TensorType, name.upper()) for name in ("int8", "int16", "int32", "int64")}


@dataclass
class Tensor:
    """A quantized tensor; with `data`, a constant."""

    shape: tuple[int, ...]
    dtype: str
    scale: list[float]
    zero_point: int = 0
    data: Any = None
    axis: int = 0


@dataclass
class Model:
    """One operator: its code, version and options, and what it reads and gives."""

    code: int
    version: int
    options: Any
    options_type: int
    inputs: list[Tensor]
    output: Tensor
    buffers: list[Any] = field(default_factory=list)

    def run(self, *inputs: np.ndarray) -> np.ndarray:
        """What LiteRT's reference kernels give."""
        interpreter = Interpreter(
            model_content=bytes(self._content()), experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        interpreter.allocate_tensors()
        for detail, value in zip(interpreter.get_input_details(), inputs, strict=True):
            interpreter.set_tensor(detail["index"], value)
        interpreter.invoke()
        return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).copy()

    def _content(self) -> bytearray:
        model, graph, operator, code = schema.ModelT(), schema.SubGraphT(), schema.OperatorT(), schema.OperatorCodeT()
        model.version, self.buffers = 3, [schema.BufferT()]
        code.builtinCode = code.deprecatedBuiltinCode = self.code
        code.version = self.version
        tensors = [*self.inputs, self.output]
        graph.tensors = [self._tensor(tensor) for tensor in tensors]
        graph.inputs = [i for i, tensor in enumerate(self.inputs) if tensor.data is None]
        graph.outputs = operator.outputs = [len(self.inputs)]
        operator.inputs = list(range(len(self.inputs)))
        operator.builtinOptions, operator.builtinOptionsType = self.options, self.options_type
        graph.operators, model.subgraphs, model.operatorCodes = [operator], [graph], [code]
        model.buffers = self.buffers
        builder = flatbuffers.Builder(1024)
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return builder.Output()

    def _tensor(self, tensor: Tensor) -> Any:
        packed, grid = schema.TensorT(), schema.QuantizationParametersT()
        packed.shape, packed.type = list(tensor.shape), _TYPES[tensor.dtype]
        grid.scale, grid.zeroPoint = tensor.scale, [tensor.zero_point] * len(tensor.scale)
        grid.quantizedDimension = tensor.axis
        packed.quantization = grid
        if tensor.data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(tensor.data.tobytes(), dtype=np.uint8)
            self.buffers.append(buffer)
            packed.buffer = len(self.buffers) - 1
        return packed
