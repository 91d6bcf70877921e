"""Each recipe holds the numbers of its source, which were read there; the recipe's file says what differs."""

import re

import pytest
from omegaconf import OmegaConf
from test_recipes import RECIPES, composed

from mnv2_tasks.build import partial_of

SLIM = "https://github.com/tensorflow/models/blob/master/research/slim"
DEEPLAB = "https://github.com/tensorflow/models/blob/master/research/deeplab"
DETECTION = "https://github.com/tensorflow/models/blob/master/research/object_detection"
SSD_CAFFE = "https://github.com/weiliu89/caffe/blob/ssd/examples/ssd"
DARKNET = "https://github.com/pjreddie/darknet/blob/master/cfg"
VISION = "https://github.com/pytorch/vision"

# images of an epoch
IMAGES = {"imagenet": 1_281_167, "coco": 118_287, "voc": 10_582}  # VOC: of trainaug
VOC_BOXES = 5_717

RMSPROP = {"optim.optimizer._target_": "mnv2_tasks.optim.TFRMSProp", "optim.optimizer.momentum": 0.9}
SGD = {"optim.optimizer._target_": "torch.optim.SGD", "optim.optimizer.momentum": 0.9}
MINUS_1_TO_1 = {"input.mean": [127.5] * 3, "input.std": [127.5] * 3}
UNIT = {"input.mean": [0.0] * 3, "input.std": [255.0] * 3}
NO_CLIPPING = {"trainer.gradient_clip": 0.0}
TF_NORMS = {"backbone.norm_eps": 1e-3, "backbone.padding": "same"}  # slim's default epsilon is 0.001

DEEPLAB_VOC = {
    **SGD, **NO_CLIPPING, "lr": 0.007, "optim.weight_decay": 4e-5, "steps": 30_000, "imgsz": 513, "ema": 0.0,
    "power": 0.9, "backbone.norm_momentum": 1 - 0.997, "optim.decay_depthwise": False, "output_stride": 16,
    "data.augmentation.segmentation": "deeplab_tf", "input.fit": "pad",
}  # fmt: skip
VAINF = {
    **SGD, **NO_CLIPPING, "lr": 0.01, "backbone_lr": 0.1, "optim.weight_decay": 1e-4, "optim.decay_norms": True,
    "steps": 30_000, "batch": 16, "imgsz": 513, "ema": 0.0, "backbone.norm_momentum": 0.01, "power": 0.9,
    "output_stride": 16,
}  # fmt: skip
YOLO = {**SGD, **NO_CLIPPING, **UNIT, "batch": 64, "optim.weight_decay": 0.0005, "optim.decay_norms": False, "ema": 0.0}
YOLO_2017 = YOLO | {
    "lr": 0.001, "schedule.shape.scales": [0.1, 0.1], "burn_in": 1000, "schedule.shape.power": 4.0, "train_imgsz": 608,
    "multi_scale.least": 320, "multi_scale.every": 10, "multi_scale.final": 200,
    "data.augmentation.detection": "darknet", "input.fit": "letterbox",
    "tasks.yolov2.head.passthrough_channels": 64, "tasks.yolov2.loss.noobject_scale": 1.0,
    "tasks.yolov2.loss.object_scale": 5.0, "tasks.yolov2.loss.ignore_threshold": 0.6, "tasks.yolov2.loss.rescore": True,
}  # fmt: skip
YOLO_2016 = YOLO | {
    "lr": 0.0001, "schedule.shape.scales": [10.0, 0.1, 0.1], "data.augmentation.detection": "darknet_2016",
    "input.fit": "square", "tasks.yolov2.head.passthrough_channels": None,
}  # fmt: skip

SSD_VGG = {
    **SGD, **NO_CLIPPING, "lr": 0.001, "batch": 32, "optim.weight_decay": 0.0005, "ema": 0.0,
    "choices.backbone": "vgg16", "data.augmentation.detection": "ssd", "input.fit": "square",
    "tasks.ssd.iou_threshold": 0.45,
    "tasks.ssd.score_threshold": 0.01, "tasks.ssd.max_detections": 200, "tasks.ssd.head.with_norm": False,
    "tasks.ssd.loss.negatives_per_positive": 3, "tasks.ssd.loss.min_negatives": 0, "tasks.ssd.loss.iou_threshold": 0.5,
}  # fmt: skip

# recipe: (where it is said, {key, or a quantity of `derived`: value})
SOURCES = {
    "classification_imagenet": (
        [f"{SLIM}/nets/mobilenet/README.md", f"{SLIM}/nets/mobilenet/mobilenet.py (training_scope)",
         f"{SLIM}/preprocessing/inception_preprocessing.py", f"{SLIM}/train_image_classifier.py",
         "arXiv:1801.04381, section 6.1"],
        {**RMSPROP, **MINUS_1_TO_1, **NO_CLIPPING, **TF_NORMS, "lr": 0.045, "batch": 96, "steps": 700_000 * 8,
         "rate after 2.5 epochs": 0.98, "optim.optimizer.decay": 0.9, "optim.optimizer.eps": 1.0,
         "optim.weight_decay": 4e-5, "optim.decay_depthwise": False, "ema": 0.9999, "ema_warmup": True,
         "tasks.classification.label_smoothing": 0.1, "tasks.classification.head.dropout": 1 - 0.8,
         "backbone.norm_momentum": 1 - 0.997, "init_std.backbone": 0.09, "init_std.tasks.classification.head": 0.09,
         "data.augmentation.classification": "inception", "input.fit": "tf1_centre_crop", "weights": "none"},
    ),
    "classification_imagenet_torchvision_v1": (
        [f"{VISION}/blob/main/references/classification/README.md (MobileNetV2)"],
        {**SGD, **NO_CLIPPING, "lr": 0.045, "batch": 8 * 32, "epochs": 300, "rate after 1 epochs": 0.98,
         "optim.weight_decay": 4e-5, "optim.decay_norms": True, "ema": 0.0, "tasks.classification.label_smoothing": 0.0,
         "tasks.classification.head.dropout": 0.2, "input.resize": 256},
    ),
    "classification_imagenet_torchvision_v2": (
        [f"{VISION}/pull/5560"],
        {**SGD, **NO_CLIPPING, "lr": 0.5, "batch": 8 * 128, "epochs": 600, "warmup epochs": 5,
         "schedule.warmup_start": 0.01, "optim.weight_decay": 2e-5, "optim.decay_norms": False,
         "tasks.classification.label_smoothing": 0.1, "mixing.mixup": 0.2, "mixing.cutmix": 1.0, "train_imgsz": 176,
         "input.resize": 232, "data.augmentation.classification": "imagenet_trivial"},
    ),
    "classification_imagenet_randaugment": (
        ["https://github.com/Deci-AI/super-gradients/blob/master/src/super_gradients/recipes/training_hyperparams/"
         "imagenet_mobilenetv2_train_params.yaml", ".../dataset_params/imagenet_mobilenetv2_dataset_params.yaml"],
        {**RMSPROP, **NO_CLIPPING, "lr": 0.032, "batch": 2 * 256, "epochs": 450, "rate after 2.4 epochs": 0.973,
         "warmup epochs": 5, "optim.weight_decay": 1e-5, "optim.decay_norms": False, "optim.optimizer.decay": 0.9,
         "optim.optimizer.eps": 1e-3, "ema": 0.9999, "tasks.classification.head.dropout": 0.2,
         "data.augmentation.classification": "imagenet_rand"},
    ),
    "classification_imagenet_distilled": (
        ["https://github.com/apple/ml-cvnets/blob/main/examples/range_augment/distillation/"
         "teacher_resnet101_student_mobilenet_v2.yaml"],
        {**SGD, **NO_CLIPPING, "optim.optimizer.nesterov": True, "lr": 0.4, "last lr": 2e-4, "first lr": 0.05,
         "warmup steps": 7500, "epochs": 300, "batch": 4 * 256, "optim.weight_decay": 4e-5, "optim.decay_norms": False,
         "ema": 1 - 0.0005, "distillation.alpha": 1.0, "distillation.temperature": 1.0, "imgsz": 224,
         "train_imgsz": 320, "multi_scale.least": 128, "multi_scale.every": 1, "input.resize": 232,
         "tasks.classification.head.dropout": 0.2, "data.augmentation.classification": "imagenet"},
    ),
    "classification_imagenet_darknet19": (
        [f"{DARKNET}/darknet19.cfg", "arXiv:1612.08242, section 3"],
        {**SGD, **NO_CLIPPING, **UNIT, "lr": 0.1, "batch": 128, "epochs": 160, "power": 4, "warmup steps": 1000,
         "optim.weight_decay": 0.0005, "ema": 0.0, "tasks.classification.label_smoothing": 0.0, "imgsz": 224},
    ),
    "classification_imagenet_nasnet": (
        [f"{SLIM}/nets/nasnet/nasnet.py (comments on the mobile network)", "arXiv:1707.07012, appendix A"],
        {**RMSPROP, **MINUS_1_TO_1, "choices.backbone": "nasnet_mobile", "trainer.gradient_clip": 10.0, "lr": 0.04,
         "batch": 32, "steps": 250_000 * 50, "rate after 2.4 epochs": 0.97, "optim.optimizer.decay": 0.9,
         "optim.optimizer.eps": 1.0, "optim.weight_decay": 4e-5, "optim.decay_depthwise": True, "ema": 0.9999,
         "auxiliary": 0.4, "backbone.drop_path": 0.0, "backbone.norm_momentum": 1 - 0.9997,
         "tasks.classification.head.dropout": 0.5, "tasks.classification.label_smoothing": 0.1,
         "input.fit": "tf1_centre_crop"},
    ),
    "ssdlite_coco": (
        [f"{DETECTION}/samples/configs/ssdlite_mobilenet_v2_coco.config", f"{DETECTION}/core/preprocessor.py",
         f"{DETECTION}/protos/optimizer.proto (moving averages)", "arXiv:1801.04381, section 6.2"],
        {**RMSPROP, **MINUS_1_TO_1, **NO_CLIPPING, **TF_NORMS, "lr": 0.004, "batch": 24, "steps": 200_000,
         "rate after 162.465 epochs": 0.95, "optim.optimizer.decay": 0.9, "optim.optimizer.eps": 1.0,
         "optim.weight_decay": 4e-5, "ema": 0.9999, "imgsz": 320, "backbone.norm_momentum": 1 - 0.9997,
         "tasks.ssdlite.head.norm_eps": 1e-3, "tasks.ssdlite.head.norm_momentum": 1 - 0.9997,
         "tasks.ssdlite.head.padding": "same", "init_std.tasks.ssdlite.head": 0.03,
         "tasks.ssdlite.head.extra_channels": [512, 256, 256, 128],
         "tasks.ssdlite.head.anchor_scales": [0.35, 0.5, 0.65, 0.8, 0.95], "tasks.ssdlite.scores": "sigmoid",
         "tasks.ssdlite.score_threshold": 1e-8, "tasks.ssdlite.iou_threshold": 0.6, "tasks.ssdlite.max_per_class": 100,
         "tasks.ssdlite.max_detections": 100, "tasks.ssdlite.loss.negatives_per_positive": 3,
         "tasks.ssdlite.loss.min_negatives": 3, "tasks.ssdlite.loss.box_weight": 1.0,
         "data.augmentation.detection": "ssd_crop_tf"},
    ),
    "ssdlite_coco_scratch": (
        ["https://github.com/open-mmlab/mmdetection/blob/main/configs/ssd/"
         "ssdlite_mobilenetv2-scratch_8xb24-600e_coco.py"],
        {**SGD, **NO_CLIPPING, "lr": 0.015, "batch": 8 * 24, "epochs": 120 * 5, "warmup steps": 500,
         "schedule.warmup_start": 0.001, "last lr": 0.0, "optim.weight_decay": 4e-5, "optim.decay_norms": True,
         "ema": 0.0, "imgsz": 320, "backbone.norm_eps": 1e-3, "backbone.norm_momentum": 0.03,
         "backbone.padding": "torch", "tasks.ssdlite.head.norm_eps": 1e-3, "tasks.ssdlite.head.norm_momentum": 0.03,
         "init_std.backbone": 0.03, "init_std.tasks.ssdlite.head.extras": 0.03,
         "init_std.tasks.ssdlite.head.class_predictors": 0.001, "init_std.tasks.ssdlite.head.box_predictors": 0.001,
         "input.mean": [123.675, 116.28, 103.53], "input.std": [58.395, 57.12, 57.375], "weights": "none",
         "tasks.ssdlite.scores": "softmax", "tasks.ssdlite.score_threshold": 0.02, "tasks.ssdlite.iou_threshold": 0.45,
         "tasks.ssdlite.max_detections": 200, "tasks.ssdlite.loss.negatives_per_positive": 3,
         "tasks.ssdlite.loss.min_negatives": 0, "data.augmentation.detection": "ssd"},
    ),
    "mobile_deeplabv3_voc_paper": (
        [f"{DEEPLAB}/train.py", f"{DEEPLAB}/model.py", f"{SLIM}/nets/mobilenet/mobilenet.py (training_scope)"],
        DEEPLAB_VOC | {"tasks.mobile_deeplabv3.head.norm_momentum": 1 - 0.9997,
                       "tasks.mobile_deeplabv3.head.dropout": 1 - 0.9, "tasks.mobile_deeplabv3.head.atrous_rates": []},
    ),
    "deeplabv3_voc_paper": (
        [f"{DEEPLAB}/train.py", f"{DEEPLAB}/model.py", f"{SLIM}/nets/mobilenet/mobilenet.py (training_scope)"],
        DEEPLAB_VOC | {"tasks.deeplabv3.head.norm_momentum": 1 - 0.9997, "tasks.deeplabv3.head.dropout": 1 - 0.9,
                       "tasks.deeplabv3.head.atrous_rates": [6, 12, 18]},
    ),
    "mobile_deeplabv3_voc_imagenet": (["https://github.com/VainF/DeepLabV3Plus-Pytorch/blob/master/main.py"], VAINF),
    "deeplabv3_voc_imagenet": (["https://github.com/VainF/DeepLabV3Plus-Pytorch/blob/master/main.py"], VAINF),
    "ssd_coco_300": (
        [f"{SSD_CAFFE}/ssd_coco.py"],
        SSD_VGG | {"steps": 400_000, "falls at": [280_000, 360_000], "imgsz": 300},
    ),
    "ssd_coco_512": ([f"{SSD_CAFFE}/ssd_coco.py, at 512"], SSD_VGG | {"imgsz": 512}),
    "ssd_voc_300": (
        [f"{SSD_CAFFE}/ssd_pascal_512.py, which holds SSD300's"],
        SSD_VGG | {"steps": 120_000, "falls at": [80_000, 100_000], "imgsz": 300},
    ),
    "yolov2_coco": (
        [f"{DARKNET}/yolov2.cfg"], YOLO_2017 | {"steps": 500_200, "falls at": [400_000, 450_000]},
    ),
    "yolov2_voc": (
        [f"{DARKNET}/yolov2-voc.cfg"], YOLO_2017 | {"steps": 80_200, "falls at": [40_000, 60_000]},
    ),
    "yolov2_coco_2016": (
        [f"{DARKNET}/yolo.cfg of November 2016"], YOLO_2016 | {"steps": 120_000, "falls at": [100, 80_000, 100_000]},
    ),
    "yolov2_voc_2016": (
        [f"{DARKNET}/yolo-voc.cfg of November 2016"], YOLO_2016 | {"steps": 45_000, "falls at": [100, 25_000, 35_000]},
    ),
}  # fmt: skip
# settings of our own, of which nobody has published a score
OURS = re.compile(
    r".*_(shapes|folder|neu_det|small|tiny_imagenet_20)|multitask_.*|ssd(lite)?_voc|(mobile_)?deeplabv3_(coco|voc)|ssd_coco"
)


def derived(config, quantity):
    """What a source says in steps, images or epochs, of a recipe in shares of the training."""
    task, data = pair_of_config(config)
    images = VOC_BOXES if task in ("ssd", "yolov2") and data == "voc" else IMAGES[data]
    steps, shape = config.epochs * images / config.batch, partial_of(config.schedule.shape)
    if rate := re.fullmatch(r"rate after ([\d.]+) epochs", quantity):
        return shape(float(rate[1]) / config.epochs)
    if quantity == "power":  # of what is left of the training
        return {0.5**p: p for p in (0.9, 4)}[shape(0.5)]
    return {
        "steps": lambda: steps,
        "warmup steps": lambda: config.schedule.warmup * steps,
        "warmup epochs": lambda: config.schedule.warmup * config.epochs,
        "burn_in": lambda: config.schedule.shape.burn_in * steps,
        "falls at": lambda: [share * steps for share in config.schedule.shape.at],
        "first lr": lambda: config.lr * config.schedule.warmup_start,
        "last lr": lambda: config.lr * shape(1.0),
    }[quantity]()


DERIVED = re.compile(r"steps|warmup (steps|epochs)|burn_in|falls at|(first|last) lr|power|rate after .*")


def pair_of_config(config):
    return config.choices.task, config.choices.data


@pytest.mark.parametrize("recipe", SOURCES)
def test_settings_are_those_of_the_source(recipe):
    config, (where, settings) = composed(recipe), SOURCES[recipe]
    assert where
    wrong = {}
    for key, value in settings.items():
        if counted := DERIVED.fullmatch(key):
            ours = derived(config, key)
        else:
            ours = OmegaConf.select(config, key, throw_on_missing=True)
            ours = OmegaConf.to_container(ours) if OmegaConf.is_config(ours) else ours
        # epochs are whole: steps come out within two hundredths, warm-ups of a few within five
        near = 0.05 if "warmup" in key else 0.02 if key in ("steps", "burn_in", "falls at") else 1e-4
        same = (
            ours == pytest.approx(value, rel=near, abs=1e-9) if counted or isinstance(value, float) else ours == value
        )
        if not same:
            wrong[key] = (ours, value)
    assert not wrong
    assert (
        config.reference_batch == config.batch
    )  # so the published rate holds as it stands, and scales with more devices


def test_every_recipe_has_a_source_or_is_ours():
    sourced = {recipe for recipe in RECIPES if recipe in SOURCES}
    ours = {recipe for recipe in RECIPES if OURS.fullmatch(recipe)}
    assert set(SOURCES) == sourced and not sourced & ours
    assert [recipe for recipe in RECIPES if recipe not in sourced | ours] == []


def test_no_recipe_of_a_source_clips_gradients_that_its_source_does_not():
    clipped = [recipe for recipe in SOURCES if composed(recipe).trainer.gradient_clip]
    assert clipped == ["classification_imagenet_nasnet"]


def test_rate_of_slims_schedule_ends_at_the_thirtieth_part_not_at_the_thousandth():
    config = composed("classification_imagenet")
    assert partial_of(config.schedule.shape)(1.0) == pytest.approx(0.98 ** (420 / 2.5), rel=1e-3)  # 0.034


def test_nasnets_settings_stay_with_another_backbone():
    assert composed("classification_imagenet_nasnet", "backbone=mobilenet_v2").choices.backbone == "mobilenet_v2"
