"""Rewrites an ONNX file of opset 17 as PyTorch's newer exporter writes one for opsets 18 to 21.

    /usr/bin/python3 newer.py FILE OPSET OUTPUT       # Debian's python3-onnx 1.12

No exporter of this age knows those opsets, so each rule below is one published change of an operator, with the opset that
brought it, or a habit of torch.onnx.export(dynamo=True): constants are initializers, Reshape has allowzero, a size is read by
Shape with start and end, unbind is Split and Squeeze, a global average is ReduceMean over [-1, -2], nodes have metadata.
ONNX Runtime judges the result: it loads it, and it computes the same.
"""
import sys

import numpy as np
import onnx
from onnx import helper, mapping, numpy_helper

IR_VERSION = {18: 8, 19: 9, 20: 9, 21: 10}  # that came with the opset
REDUCTIONS = {f"Reduce{kind}" for kind in ["L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "SumSquare"]}


def attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def slices(a, x, start, end, axes, steps=(1,)):
    assert list(axes) == [0]
    return x[max(start[0], -len(x)):None if end[0] < -len(x) else end[0]:steps[0]]


FOLDED = {
    "Cast": lambda a, x: x.astype(mapping.TENSOR_TYPE_TO_NP_TYPE[a["to"]]),
    "Concat": lambda a, *x: np.concatenate(x, a["axis"]),
    "Constant": lambda a: numpy_helper.to_array(a["value"]),
    "ConstantOfShape": lambda a, s: np.full(s, numpy_helper.to_array(a["value"])[0]),
    "Reshape": lambda a, x, s: x.reshape(s),
    "Slice": slices,
    "Transpose": lambda a, x: x.transpose(a.get("perm")),
}


class Graph:
    def __init__(self, graph, opset):
        self.proto, self.opset, self.count = graph, opset, 0
        self.constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        weights, self.nodes = set(self.constants), []
        for node in graph.node:  # what is constant becomes an initializer
            values = [self.constants.get(name) for name in node.input]
            if node.op_type in FOLDED and not any(v is None for v in values) and not weights & set(node.input):
                value = np.asarray(FOLDED[node.op_type](attributes(node), *values))
                self.constants[node.output[0]] = value
                graph.initializer.append(numpy_helper.from_array(value, node.output[0]))
            else:
                self.nodes.append(node)
        self.index()

    def index(self):
        self.producer = {name: n for n in self.nodes for name in n.output}
        self.readers = {}
        for n in self.nodes:
            for name in n.input:
                self.readers.setdefault(name, []).append(n)

    def name(self):
        self.count += 1
        return f"val_{self.count}"

    def constant(self, values, dtype=np.int64):
        name = self.name()
        self.constants[name] = np.array(values, dtype)
        self.proto.initializer.append(numpy_helper.from_array(self.constants[name], name))
        return name

    def made_by(self, name, op):
        """The node of that operator which gives a tensor that nothing else reads, if it is so."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type == op and len(self.readers[name]) == 1 else None

    def replace(self, old, *new):
        """Puts new nodes where the last of the old ones was, and takes those out."""
        at = self.nodes.index(old[-1])
        self.nodes[at:at + 1] = new
        for node in old[:-1]:
            self.nodes.remove(node)
        self.index()


def drop(node, name):
    for a in [a for a in node.attribute if a.name == name]:
        node.attribute.remove(a)


def put(node, **values):
    for name, value in values.items():
        drop(node, name)
        node.attribute.append(helper.make_attribute(name, value))


def axes_are_an_input(g, node):  # 18
    axes = attributes(node).get("axes")
    if node.op_type in REDUCTIONS and axes:
        drop(node, "axes")
        node.input.append(g.constant(axes))
        put(node, noop_with_empty_axes=0)


def pads_are_for_axes(g, node):  # 18
    if node.op_type == "Pad" and len(node.input) < 4 and node.input[1] in g.constants:
        pads = g.constants[node.input[1]].reshape(2, -1)
        axes = [i for i in range(pads.shape[1]) if pads[:, i].any()]
        if axes:
            node.input[1] = g.constant(pads[:, axes].flatten())
            node.input.extend([""] * (3 - len(node.input)) + [g.constant(axes)])


def split_is_in_equal_parts(g, node):  # 18
    if node.op_type == "Split" and len(node.input) == 2 and len(set(g.constants[node.input[1]])) == 1:
        put(node, num_outputs=len(node.output))
        del node.input[1]


def unbind_is_a_split(g, node):  # 18
    """TorchScript's exporter writes a Gather for each part."""
    def picks(n):
        at = g.constants.get(n.input[1], np.zeros(1)) if n.op_type == "Gather" else np.zeros(1)
        return at.ndim == 0 and attributes(n).get("axis", 0) == 0
    parts = [n for n in g.readers.get(node.output[0], []) if picks(n)]
    if node.op_type == "Transpose" and len(parts) == 3:
        parts.sort(key=lambda n: int(g.constants[n.input[1]]))
        names = [g.name() for _ in parts]
        split = helper.make_node("Split", [node.output[0]], names, axis=0, num_outputs=3)
        squeezes = [helper.make_node("Squeeze", [name, g.constant([0])], [p.output[0]]) for name, p in zip(names, parts)]
        g.replace([node], node, split, *squeezes)
        for p in parts:
            g.nodes.remove(p)
        g.index()


def size_is_part_of_a_shape(g, node):  # 15
    """As a list of one, where TorchScript's exporter picks a number and makes it a list."""
    shape = g.producer.get(node.input[0]) if node.op_type == "Gather" else None
    if shape is None or shape.op_type != "Shape" or g.constants.get(node.input[1], np.zeros(1)).ndim:
        return
    at, size, number = int(g.constants[node.input[1]]), g.name(), node.output[0]
    readers = g.readers[number]
    lists = [n for n in readers if n.op_type == "Unsqueeze"]
    for other in g.nodes:
        for i, name in enumerate(other.input):
            if any(name == n.output[0] for n in lists):
                other.input[i] = size
    new = [helper.make_node("Shape", [shape.input[0]], [size], start=at, end=at + 1)]
    if len(lists) < len(readers):
        new.append(helper.make_node("Squeeze", [size, g.constant([0])], [number]))
    g.replace([*lists, node], *new)


def zeros_are_sizes(g, node):  # 14
    if node.op_type == "Reshape" and 0 not in g.constants.get(node.input[1], np.ones(1)):
        put(node, allowzero=1)


def global_average_is_a_mean(g, node):
    if node.op_type == "GlobalAveragePool":
        mean = helper.make_node("ReduceMean", [node.input[0], g.constant([-1, -2])], node.output, keepdims=1)
        g.replace([node], mean)


def group_norm(g, node):
    """TorchScript's exporter reshapes around an instance norm. Opset 18 scales by group, opset 21 by channel."""
    norm = g.made_by(node.input[0], "InstanceNormalization") if node.op_type == "Reshape" else None
    before = g.made_by(norm.input[0], "Reshape") if norm is not None else None
    if before is None:
        return
    x, groups, epsilon = before.input[0], len(g.constants[norm.input[1]]), attributes(norm)["epsilon"]
    options = {"num_groups": groups, "epsilon": epsilon}
    if g.opset < 21:
        ones, zeros = g.constant([1] * groups, np.float32), g.constant([0] * groups, np.float32)
        whole = helper.make_node("GroupNormalization", [x, ones, zeros], node.output, **options)
        g.replace([before, norm, node], whole)
        return
    (mul,) = g.readers[node.output[0]]
    (add,) = g.readers[mul.output[0]]
    weight, bias = (g.constant(g.constants[n.input[1]].flatten(), np.float32) for n in (mul, add))
    whole = helper.make_node("GroupNormalization", [x, weight, bias], add.output, **options)
    g.replace([before, norm, node, mul, add], whole)


def mish(g, node):  # 18
    tanh = g.made_by(node.input[1], "Tanh") if node.op_type == "Mul" else None
    softplus = g.made_by(tanh.input[0], "Softplus") if tanh is not None else None
    if softplus is not None and softplus.input[0] == node.input[0]:
        g.replace([softplus, tanh, node], helper.make_node("Mish", [node.input[0]], [node.output[0]]))


def gelu(g, node):
    """x/√2, erf, +1, ·x, ·½. An operator since 20."""
    half = g.made_by(node.input[0], "Mul") if node.op_type == "Mul" and g.opset >= 20 else None
    one = g.made_by(half.input[1], "Add") if half is not None else None
    erf = g.made_by(one.input[0], "Erf") if one is not None else None
    root = g.made_by(erf.input[0], "Div") if erf is not None else None
    if root is not None and root.input[0] == half.input[0]:
        whole = helper.make_node("Gelu", [root.input[0]], node.output, approximate="none")
        g.replace([root, erf, one, half, node], whole)


def new_attributes(g, node):
    if g.opset >= 19 and node.op_type == "AveragePool":
        put(node, dilations=[1, 1])
    if g.opset >= 19 and node.op_type == "Cast":
        put(node, saturate=1)


RULES = [unbind_is_a_split, size_is_part_of_a_shape, group_norm, mish, gelu, global_average_is_a_mean, axes_are_an_input,
         pads_are_for_axes, split_is_in_equal_parts, zeros_are_sizes, new_attributes]


def entry(key, value):
    return onnx.StringStringEntryProto(key=key, value=value).SerializeToString()


def rewrite(model, opset):
    """The model of opset 17 as one of opset 18, 19, 20 or 21."""
    model = onnx.ModelProto.FromString(model.SerializeToString())
    g = Graph(model.graph, opset)
    for rule in RULES:
        for node in list(g.nodes):
            if any(node is n for n in g.nodes):
                rule(g, node)
    for i, node in enumerate(g.nodes):
        node.name = f"node_{node.op_type}_{i}"
        if opset == 21:  # metadata_props, field 9, came with its version of the format
            note = entry("namespace", f": net.Net/{node.name}: aten.{node.op_type.lower()}.default")
            node.MergeFromString(bytes([9 << 3 | 2, len(note)]) + note)
    read = {name for n in g.nodes for name in n.input}
    kept = [t for t in model.graph.initializer if t.name in read]
    for field, values in [("node", g.nodes), ("initializer", kept)]:
        model.graph.ClearField(field)
        getattr(model.graph, field).extend(values)
    del model.graph.value_info[:]
    model.ir_version, model.producer_name, model.producer_version = IR_VERSION[opset], "pytorch", "2.9.0"
    model.opset_import[0].version = opset
    return model


if __name__ == "__main__":
    path, opset, output = sys.argv[1:]
    onnx.save(rewrite(onnx.load(path), int(opset)), output)
