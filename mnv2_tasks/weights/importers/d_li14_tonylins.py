"""d-li14's and tonylins' MobileNetV2, and their many copies: each block is one flat sequence of layers."""

from mnv2_tasks.weights.importers.family import BLOCKS, CLASSIFIER, TORCH_INPUT, TORCH_LAYERS, Family, in_network_order

STEM_AND_BLOCKS = ["features.0.0", "features.0.1"] + [
    f"features.{n}.conv.{layer}"  # 2 and 5 are ReLU6
    for n in range(1, BLOCKS + 1)
    for layer in ((0, 1, 3, 4) if n == 1 else (0, 1, 3, 4, 6, 7))
]


def _family(name: str, last: list[str], note: str) -> Family:
    return Family(
        name=name,
        task="classification",
        backbone="mobilenet_v2",
        modules=dict(zip([*STEM_AND_BLOCKS, *last], [*in_network_order(), CLASSIFIER], strict=True)),
        head=last[-1],
        overrides=TORCH_LAYERS + TORCH_INPUT,
        note=note,
    )


D_LI14 = _family(
    "d-li14 mobilenetv2",
    ["conv.0", "conv.1", "classifier"],
    ". d-li14's width 0.1 rounds channels to multiples of 4; the paper's networks round to multiples of 8",
)
TONYLINS, TONYLINS_WITH_DROPOUT = (  # copies differ in whether the classifier includes its dropout
    _family(
        "tonylins mobilenet-v2",
        ["features.18.0", "features.18.1", classifier],
        ". tonylins' stem has 32 channels at every width: only its width 1.0 is the paper's network",
    )
    for classifier in ("classifier", "classifier.1")
)
