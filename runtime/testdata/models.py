#!/usr/bin/env python3
"""Writes the small models that the tests of package runtime run, beside itself.

    python3 models.py

Needs onnx (Debian: python3-onnx).
"""
import pathlib

from onnx import TensorProto as T
from onnx import helper, save

HERE = pathlib.Path(__file__).parent


def write(name, nodes, inputs, outputs):
    graph = helper.make_graph(nodes, name, inputs, outputs)
    model = helper.make_model(graph, producer_name="distill", ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    save(model, HERE / f"{name}.onnx")


def value(name, dtype, shape):
    return helper.make_tensor_value_info(name, dtype, shape)


node = helper.make_node
x = value("x", T.FLOAT, ["n", 2])

# One output of every kind: some that a tensor carries as they are, some converted, some not at all.
write("types", [
    node("Identity", ["x"], ["same"]),
    node("Cast", ["x"], ["double"], to=T.DOUBLE),
    node("Cast", ["x"], ["int32"], to=T.INT32),
    node("Cast", ["x"], ["bool"], to=T.BOOL),
    node("Cast", ["x"], ["half"], to=T.FLOAT16),
    node("Shape", ["x"], ["shape"]),
    node("ReduceSum", ["x"], ["sum"], keepdims=0),
    node("SequenceConstruct", ["x"], ["list"]),
], [x], [
    value("same", T.FLOAT, ["n", 2]),
    value("double", T.DOUBLE, ["n", 2]),
    value("int32", T.INT32, ["n", 2]),
    value("bool", T.BOOL, ["n", 2]),
    value("half", T.FLOAT16, ["n", 2]),
    value("shape", T.INT64, [2]),
    value("sum", T.FLOAT, []),
    helper.make_tensor_sequence_value_info("list", T.FLOAT, None),
])

# An output whose rank only the run tells, and one that says it has a dimension and may have none.
write("rank", [
    node("Reshape", ["x", "to"], ["free"]),
    node("Reshape", ["x", "to"], ["claimed"]),
], [value("x", T.FLOAT, ["n"]), value("to", T.INT64, ["r"])], [value("free", T.FLOAT, None), value("claimed", T.FLOAT, ["m"])])

# No input at all.
write("constant", [
    node("Constant", [], ["one"], value_float=1.0),
], [], [value("one", T.FLOAT, [])])
