"""timm's mobilenetv2_035 to mobilenetv2_140."""

from mnv2_tasks.backbones.mobilenet_v2 import TABLE_2
from mnv2_tasks.weights.importers.family import CLASSIFIER, TORCH_INPUT, TORCH_LAYERS, Family, in_network_order


def _layers() -> list[str]:
    first = ("conv_dw", "bn1", "conv_pw", "bn2")
    later = ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
    blocks = []
    for row, (_, _, repeats, _) in enumerate(TABLE_2):
        for repeat in range(repeats):
            blocks += [f"blocks.{row}.{repeat}.{layer}" for layer in (first if row == 0 else later)]
    return ["conv_stem", "bn1", *blocks, "conv_head", "bn2", "classifier"]


MOBILENET_V2 = Family(
    name="timm mobilenetv2",
    task="classification",
    backbone="mobilenet_v2",
    modules=dict(zip(_layers(), [*in_network_order(), CLASSIFIER], strict=True)),
    head="classifier",
    overrides=TORCH_LAYERS + TORCH_INPUT,
    note=". mobilenetv2_110d and mobilenetv2_120d are scaled in depth: they have more blocks than the paper's",
)
