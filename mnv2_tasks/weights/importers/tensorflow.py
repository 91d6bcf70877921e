"""TensorFlow's networks, as checkpoints or frozen graphs: TF slim's classifiers, NASNet-A too, SSDLite, DeepLab."""

import os
import re
from collections.abc import Callable, Collection, Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mnv2_tasks.errors import ConfigError
from mnv2_tasks.weights.importers.complete import complete
from mnv2_tasks.weights.importers.family import Imported
from mnv2_tasks.weights.importers.folded import bias_as_norm
from mnv2_tasks.weights.importers.label_map import label_map_beside
from mnv2_tasks.weights.importers.tensorflow_detector import detector_settings
from mnv2_tasks.weights.importers.tensorflow_graph import FrozenGraph
from mnv2_tasks.weights.importers.tensorflow_names import (
    CLASS_BIASES,
    SHADOW,
    SSDLITE,
    TensorFlowLayout,
    check_anchors,
    dropped_columns,
    folded_norm,
    is_weight,
    num_classes,
    place,
    recognise_layout,
    ssdlite_of,
    unused,
)
from mnv2_tasks.weights.importers.width import mobilenet_v1_shapes
from mnv2_tasks.wording import brief

_SUFFIX = re.compile(r"\.(index|meta|data-\d+-of-\d+)$")


def read_tensorflow(path: Path) -> Imported:
    """Convert a checkpoint of TensorFlow 1 (several files that share a prefix).

    The size of the input is not in a checkpoint: it is the published one of the architecture, or the one in TF slim's
    own file names, such as mobilenet_v2_0.35_96.ckpt.

    Args:
        path: the prefix (model.ckpt-123), one of its files (model.ckpt-123.index), or a folder that holds one.

    Raises:
        ConfigError: TensorFlow is not installed, there is no checkpoint, or it is not of a network of ours.
    """
    prefix = _prefix(path)
    import torch._dynamo  # noqa: F401  triton loaded after TensorFlow crashes the process (both carry an LLVM)

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # else its import prints what it thinks of this CPU
    try:
        import tensorflow as tf
    except ImportError as error:
        raise ConfigError(f'{path}: reading it needs TensorFlow; pip install "mnv2-tasks[tf]"') from error
    try:
        reader = tf.train.load_checkpoint(str(prefix))
        return convert(reader.get_variable_to_shape_map(), reader.get_tensor, str(prefix))
    except ConfigError:
        raise
    except Exception as error:  # TensorFlow raises nearly anything on a damaged file
        raise ConfigError(f"{path}: TensorFlow cannot read it, is the download complete? {error}") from error


def read_frozen_graph(path: Path) -> Imported:
    """Convert a graph whose variables have become constants (.pb), without TensorFlow.

    Of a graph, unlike a checkpoint, the size of the input is known, and of a detector its anchors and what it does with
    scores and boxes.

    Raises:
        ConfigError: it is no graph, too large, damaged, or not of a network of ours.
    """
    graph = FrozenGraph(path)
    recognise_layout(graph.variables, str(path))  # another network is called one, whatever its layers lack
    graph.check_layers()
    try:
        imported = convert(graph.variables, graph.values, str(path), graph.size(), detector_settings(graph))
    except (RuntimeError, IndexError) as error:  # torch's, of shapes that cannot be those of these layers
        raise ConfigError(f"{path}: its tensors are not of the shapes of these layers ({brief(str(error))})") from None
    return imported._replace(left_out=imported.left_out | graph.left_out())


def convert(
    variables: Iterable[str],
    read: Callable[[str], np.ndarray],
    source: str,
    size: int | None = None,
    settings: Iterable[str] = (),
) -> Imported:
    """Give each variable its place in our network.

    Moving averages are preferred to the raw values, as TF slim's evaluation does.

    Args:
        variables: every name in the checkpoint.
        read: the values of one of them, in TF's layout.
        source: the file, for messages and for the size of the input in its name; a detector's label map lies beside.
        size: side of the input in pixels, where the file says it.
        settings: overrides that the file says itself, before those of its layout.

    Raises:
        ConfigError: not one of our networks, a variable without a place, or one that is missing.
    """
    names = set(variables)
    layout, labels = _layout_and_labels(names, read, source)
    state: dict[str, Tensor] = {}
    left_out: dict[str, str] = {}
    unknown = []
    settings, classes = list(settings), 0
    for name in sorted(names):
        variable = name.removesuffix(SHADOW)
        target = place(variable, layout)
        if not is_weight(variable):
            left_out[name] = _bookkeeping(variable)
        elif norm := folded_norm(variable, layout):
            state |= bias_as_norm(torch.from_numpy(np.array(read(name), dtype=np.float32)), norm)
        elif target is None and (why := unused(variable, layout)):
            left_out[name] = why
        elif target is None:
            unknown.append(name)
        elif name + SHADOW in names:
            left_out[name] = "its moving average was taken instead"
        else:
            values = torch.from_numpy(np.array(read(name), dtype=np.float32))
            check_anchors(variable, values, source)
            state[target.name] = target.convert(values).contiguous()
            classes = num_classes(variable, values, layout) or classes
            dropped = dropped_columns(variable, values, layout)
            left_out |= {f"{name}[{columns}]": why for columns, why in dropped.items()}
    if unknown:
        raise ConfigError(
            f"{source}: {len(unknown)} variables belong to no layer of our {layout.task}, "
            f"such as {', '.join(unknown[:3])}"
        )
    if not classes:
        raise ConfigError(f"{source}: the biases of the last layer are missing, which tell the number of classes")
    said = [setting.partition("=")[0] + "=" for setting in settings]
    kept = [override for override in layout.overrides if not override.startswith(tuple(said))]
    width, shapes = None, layout.shapes and layout.shapes()
    if layout.backbone == "mobilenet_v1":
        width, shapes = mobilenet_v1_shapes(state, source)
    return complete(
        state,
        family=layout.family,
        task=layout.task,
        num_classes=classes,
        source=source,
        overrides=[*kept, *settings] if width is None else [f"width={width}", *kept, *settings],
        left_out=left_out,
        backbone=layout.backbone,
        shapes=shapes,
        size=size,
        labels=labels,
    )


def _layout_and_labels(
    names: Collection[str], read: Callable[[str], np.ndarray], source: str
) -> tuple[TensorFlowLayout, list[str] | None]:
    """The naming scheme, and the names of the classes where a label map lies beside a detector."""
    layout = recognise_layout(names, source)
    label_map = label_map_beside(Path(source)) if layout is SSDLITE and CLASS_BIASES in names else None
    if label_map is None:
        return layout, None
    label_map.check(len(read(CLASS_BIASES)) // 3 - 1)
    return ssdlite_of(list(label_map.names)), list(label_map.names.values())


def _prefix(path: Path) -> Path:
    if path.is_dir():
        found = sorted(path.glob("*.index"))
        if len(found) != 1:
            listed = ", ".join(file.name for file in found)
            raise ConfigError(
                f"{path}: {f'several checkpoints, name one: {listed}' if found else 'no checkpoint in it (*.index)'}"
            )
        path = found[0]
    prefix = path.with_name(_SUFFIX.sub("", path.name))
    if not prefix.with_name(prefix.name + ".index").is_file():
        raise ConfigError(f"{path}: no TensorFlow checkpoint, {prefix.name}.index does not exist beside it")
    return prefix


def _bookkeeping(variable: str) -> str:
    if variable == "global_step":
        return "step counter"
    if re.search(r"/(RMSProp|Momentum|Adam)(_\d+)?$", variable):
        return "optimizer slot"
    if re.search(r"_quant/", variable):
        return "range of a fake quantisation"
    return "no weight of a layer"
