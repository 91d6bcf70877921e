"""Frozen graphs (.pb) for tests, written with tensorboard's protobuf classes: constants, and what else is asked for."""

import numpy as np
from tensorboard.compat.proto.graph_pb2 import GraphDef

FLOAT, INT32 = 1, 3


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
        whole = values.dtype.kind == "i"
        tensor.dtype = INT32 if whole else FLOAT
        for side in values.shape if shape is None else shape:
            tensor.tensor_shape.dim.add(size=side)
        if packed and values.ndim:
            tensor.tensor_content = values.astype("<i4" if whole else "<f4").tobytes()
        else:
            (tensor.int_val if whole else tensor.float_val).extend(values.ravel().tolist())

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
