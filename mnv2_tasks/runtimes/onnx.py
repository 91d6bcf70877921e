"""ONNX: written by torch's exporter, run by ONNX Runtime."""

import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

OPSET = 18


def write(graph: Any, example: torch.Tensor, metadata: dict[str, str], path: Path, precision: str) -> None:
    """One file, for any number of images at once; of any height and width where the graph takes them.

    Args:
        graph: see `formats`.
        example: (B, H, W, 3) uint8, B > 1.
        precision: fp32 or fp16; int8 is made of the former, see export/int8.
    """
    model = to_onnx(graph, example)
    if precision == "fp16":
        from onnxruntime.transformers.float16 import convert_float_to_float16
        from onnxruntime.transformers.onnx_model import OnnxModel

        model = convert_float_to_float16(model, keep_io_types=True, op_block_list=AT_FULL)
        OnnxModel(model).topological_sort()  # the casts were put at the end
    save(model, metadata, path)


def save(model: Any, metadata: dict[str, str], path: Path) -> None:
    """Write an `onnx.ModelProto` that was found to be sound."""
    import onnx

    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


# post-processing loses boxes and pixels at half precision
AT_FULL = ["NonMaxSuppression", "Resize", "TopK", "Softmax", "Sigmoid", "ReduceMax"]


def to_onnx(graph: Any, example: torch.Tensor) -> Any:
    """The float32 model, an `onnx.ModelProto`."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter's affairs
        for name in ("torch.onnx", "onnxscript", "onnx_ir"):
            logging.getLogger(name).setLevel(logging.ERROR)
        graph(example)  # anchors are remembered: they must be made of real numbers first
        program = torch.onnx.export(
            graph,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=graph.output_names,
            dynamic_shapes=(graph.dynamic_shape,),
            opset_version=OPSET,
            custom_translation_table={torch.ops.mnv2_tasks.survivors.default: _survivors},
            external_data=False,
            verbose=False,
        )
    assert program is not None
    return program.model_proto


def _survivors(boxes: Any, ranks: Any, iou_threshold: float, count: int) -> Any:
    """`mnv2_tasks::survivors` in ONNX's operators."""
    from onnx import TensorProto, helper
    from onnxscript import opset18

    op: Any = opset18  # its annotations know nothing of a graph that is being written

    chosen = op.NonMaxSuppression(
        boxes,
        op.Unsqueeze(ranks, op.Constant(value_ints=[1])),
        op.Constant(value_ints=[count]),
        op.Constant(value_floats=[iou_threshold]),
        op.Constant(value_floats=[0.0]),
    )  # (n, 3): image, class, box
    where = op.Gather(chosen, op.Constant(value_ints=[0, 2]), axis=1)
    one = helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])
    ones = op.ConstantOfShape(op.Slice(op.Shape(chosen), [0], [1]), value=one)
    return op.Cast(op.ScatterND(op.ConstantOfShape(op.Shape(ranks)), where, ones), to=TensorProto.BOOL)


class Session:
    def __init__(self, path: Path, threads: int | None = None):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        options.log_severity_level = 3
        # else its threads wait busily for tens of milliseconds after a run, and take the cores from what follows
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.metadata: dict[str, str] = self.session.get_modelmeta().custom_metadata_map

    def __call__(self, images: np.ndarray) -> list[np.ndarray]:
        return [np.asarray(result) for result in self.session.run(None, {"images": images})]
