"""The class lists of the public data sets: index i of a head is entry i here, whatever order files come in."""

from functools import cache
from pathlib import Path

from torchvision.models import MobileNet_V2_Weights
from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights

VOC_OBJECTS = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
VOC_SEGMENTATION = ["background", *VOC_OBJECTS]
CITYSCAPES = [  # in the order of its train ids
    "road", "sidewalk", "building", "wall", "fence", "pole", "traffic light", "traffic sign", "vegetation", "terrain",
    "sky", "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
]  # fmt: skip
# COCO's name for each of them, where it differs
COCO_NAME_OF_VOC = {
    "aeroplane": "airplane", "diningtable": "dining table", "motorbike": "motorcycle", "pottedplant": "potted plant",
    "sofa": "couch", "tvmonitor": "tv",
}  # fmt: skip


@cache
def imagenet_wnids() -> list[str]:
    """The 1000 WordNet ids in class order, which is their alphabetical order."""
    return Path(__file__).with_name("imagenet_wnids.txt").read_text(encoding="utf-8").split()


@cache
def imagenet_devkit_order() -> list[int]:
    """Our class of each of the 1000 in the order of ILSVRC 2012's devkit, whose first is the kit fox."""
    ours = {wnid: index for index, wnid in enumerate(imagenet_wnids())}
    text = Path(__file__).with_name("imagenet_devkit_order.txt").read_text(encoding="utf-8")
    return [ours[wnid] for wnid in text.split()]


@cache
def imagenet_names() -> list[str]:
    """Readable names in the same order."""
    return list(MobileNet_V2_Weights.IMAGENET1K_V1.meta["categories"])


@cache
def coco_categories() -> dict[int, str]:
    """{official category id: name} of the 80 classes, in label order; ids run to 90 with ten gaps."""
    names = FasterRCNN_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return {i: name for i, name in enumerate(names) if name not in ("__background__", "N/A")}
