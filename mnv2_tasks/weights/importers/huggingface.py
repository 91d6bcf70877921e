"""MobileNetV2 in Hugging Face transformers: Google's TensorFlow weights in PyTorch's layout."""

from mnv2_tasks.weights.importers.family import (
    BLOCKS,
    CLASSIFIER,
    DEEPLAB,
    TF_INPUT,
    TF_LAYERS,
    Family,
    in_network_order,
)


def _layers(blocks: list[str]) -> list[str]:
    return [f"{block}.{layer}" for block in blocks for layer in ("convolution", "normalization")]


STEM_AND_BLOCKS = _layers(
    [f"mobilenet_v2.conv_stem.{part}" for part in ("first_conv", "conv_3x3", "reduce_1x1")]
    + [
        f"mobilenet_v2.layer.{n}.{part}"
        for n in range(BLOCKS - 1)  # the first one lies in their stem
        for part in ("expand_1x1", "conv_3x3", "reduce_1x1")
    ]
)
LAST = _layers(["mobilenet_v2.conv_1x1"])
HEAD = _layers([f"segmentation_head.{part}" for part in ("conv_pool", "conv_aspp", "conv_projection")])
OUR_HEAD = [f"{DEEPLAB}.{part}.{layer}" for part in ("pool", "pointwise", "project") for layer in (0, 1)]

CLASSIFICATION = Family(
    name="Hugging Face MobileNetV2ForImageClassification",
    task="classification",
    backbone="mobilenet_v2",
    modules=dict(zip([*STEM_AND_BLOCKS, *LAST, "classifier"], [*in_network_order(), CLASSIFIER], strict=True)),
    head="classifier",
    overrides=TF_LAYERS + TF_INPUT,
    background_first=True,
)
SEGMENTATION = Family(
    name="Hugging Face MobileNetV2ForSemanticSegmentation",
    task="mobile_deeplabv3",
    backbone="mobilenet_v2",
    modules=dict(
        zip(
            [*STEM_AND_BLOCKS, *HEAD, "segmentation_head.classifier.convolution"],
            [*in_network_order(final=False), *OUR_HEAD, f"{DEEPLAB}.logits"],
            strict=True,
        )
    ),
    head="segmentation_head.classifier.convolution",
    overrides=TF_LAYERS + TF_INPUT,
    unused=dict.fromkeys(LAST, "past the map that the segmenter reads"),
)
