"""Frozen graphs (.pb) for tests, written with tensorboard's protobuf classes: constants, and what else is asked for."""

import numpy as np
from tensorboard.compat.proto.graph_pb2 import GraphDef

# TensorFlow's number of each type, NumPy's packed one, and the field for the numbers one by one
TYPES = {
    "f8": (1, "<f4", "float_val"),
    "f4": (1, "<f4", "float_val"),
    "f2": (19, "<f2", "half_val"),
    "i4": (3, "<i4", "int_val"),
    "i8": (3, "<i4", "int_val"),
    "u1": (12, "u1", "int_val"),
}
NORM = ("gamma", "beta", "moving_mean", "moving_variance")


def folded(variables, how):
    """A graph of convolutions into which the norms of these variables were folded.

    Args:
        how: "in place": as TensorFlow's graph_transforms. "renamed": as its optimize_for_inference, which leaves the
            norms' constants behind. "merged": as grappler, whose depthwise kernels stay, with a product behind.
    """
    layers = {name.removesuffix("/BatchNorm/gamma") for name in variables if name.endswith("/BatchNorm/gamma")}
    kernels = {name for name in variables if name.rpartition("/")[0] in layers}
    norms = {f"{layer}/BatchNorm/{part}" for layer in layers for part in NORM}
    writer = GraphWriter({name: variables[name] for name in variables.keys() - kernels - norms})
    for name in sorted(kernels):
        layer, _, part = name.rpartition("/")
        depthwise = part == "depthwise_weights"
        gamma, beta, mean, variance = (variables[f"{layer}/BatchNorm/{of_norm}"].astype(float) for of_norm in NORM)
        factor = gamma / np.sqrt(variance + (1e-3 if "/" in layer else 1e-5))  # DeepLab's head
        kernel, bias = variables[name] * (factor[:, None] if depthwise else factor), beta - mean * factor
        conv = f"{layer}/{'depthwise' if depthwise else 'Conv2D'}"
        kind, added = "DepthwiseConv2dNative" if depthwise else "Conv2D", f"{conv}_bn_offset"
        result = conv
        if how == "in place":
            writer.constant(name, kernel)
            writer.operation(f"{name}/read", "Identity", [name])
            writer.operation(conv, kind, ["features", f"{name}/read"])
        elif how == "renamed":
            writer.constant(f"{conv}_weights", kernel)
            writer.operation(conv, kind, ["features", f"{conv}_weights"])
            for of_norm in NORM:
                writer.constant(f"{layer}/BatchNorm/{of_norm}", variables[f"{layer}/BatchNorm/{of_norm}"])
        else:
            result, added = f"{layer}/BatchNorm/batchnorm/mul_1", f"{layer}/BatchNorm/batchnorm/sub"
            writer.constant(name if depthwise else f"{conv}/merged_input", variables[name] if depthwise else kernel)
            if depthwise:
                writer.constant(f"{layer}/BatchNorm/batchnorm/mul", factor)
                writer.operation(conv, kind, ["features", name])
                writer.operation(result, "Mul", [conv, f"{layer}/BatchNorm/batchnorm/mul"])
            else:
                writer.operation(result, kind, ["features", f"{conv}/merged_input"])
        writer.constant(added, bias)
        if depthwise:
            writer.operation(f"{layer}/back", "BatchToSpaceND", [result, "sides", "crops"])
            result = f"{layer}/back"
        writer.operation(f"{layer}/added", "Add" if how == "merged" else "BiasAdd", [result, added])
    return writer


class GraphWriter:
    def __init__(self, variables=()):
        self.graph = GraphDef()
        for name, values in dict(variables).items():
            self.constant(name, values)
            self.operation(f"{name}/read", "Identity", [name])

    def operation(self, name, kind, inputs=(), **floats):
        node = self.graph.node.add(name=name, op=kind, input=inputs)
        for key, value in floats.items():
            node.attr[key].f = value
        return node

    def constant(self, name, values, shape=None, packed=True):
        """`packed=False`: number by number; with a larger `shape`, the last one stands for all that follow."""
        values = np.asarray(values)
        tensor = self.operation(name, "Const").attr["value"].tensor
        tensor.dtype, kind, field = TYPES[values.dtype.str[1:]]
        for side in values.shape if shape is None else shape:
            tensor.tensor_shape.dim.add(size=side)
        if packed and values.ndim:
            tensor.tensor_content = values.astype(kind).tobytes()
        else:
            bits = values.view("<u2") if field == "half_val" else values
            getattr(tensor, field).extend(bits.ravel().tolist())

    def quantised(self, name, values, mode):
        """Bytes in place of the numbers, as graph_transforms' quantize_weights leaves them: (codes, least, most)."""
        least, most = np.float32(values.min()), np.float32(values.max())
        codes = np.round((values - least) / (most - least) * 255).astype(np.uint8)
        parts = {"const": codes, "min": least, "max": most}
        for part, content in parts.items():
            self.constant(f"{name}_quantized_{part}", content)
        node = self.operation(name, "Dequantize", [f"{name}_quantized_{part}" for part in parts])
        node.attr["mode"].s = mode.encode()
        return codes, least, most

    def placeholder(self, *shape):
        node = self.operation("input", "Placeholder")
        for side in shape:
            node.attr["shape"].shape.dim.add(size=side)

    def detector(self, scores="Sigmoid", threshold=1e-8, overlap=0.6, of_class=100, of_all=100, classes=1):
        """The Object Detection API's post-processing, as far as it says anything."""
        self.operation("Postprocessor/convert_scores", scores)
        nms = "Postprocessor/BatchMultiClassNonMaxSuppression/map/while/MultiClassNonMaxSuppression"
        for i in range(classes):
            number = f"_{i}" if i else ""
            self.constant(f"{nms}/Minimum{number}/x", np.int32(of_class))
            self.constant(f"{nms}/non_max_suppression{number}/score_threshold", np.float32(threshold))
            self.constant(f"{nms}/non_max_suppression{number}/iou_threshold", np.float32(overlap))
        self.constant(f"{nms}/Minimum_{classes}/x", np.int32(of_all))

    def anchors(self, ratios, scales):
        """Of each map."""
        for i, (of_map, row) in enumerate(zip(ratios, scales)):
            self.constant(f"MultipleGridAnchorGenerator/Sqrt{f'_{i}' if i else ''}/x", np.float32(of_map))
            self.constant(f"MultipleGridAnchorGenerator/mul_{8 * i + 14}/x", np.float32(0.5))
            self.constant(f"MultipleGridAnchorGenerator/mul_{8 * i + 15}/x", np.float32(row))

    def write(self, path):
        path.write_bytes(self.graph.SerializeToString())
        return path
