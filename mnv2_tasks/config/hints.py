"""What a colleague would say to a word that other programs know, or that belongs to another verb."""

import re

OF_KEYS = {
    "run": "a run's network is weights=<run folder>",
    "device": "where to compute: trainer.accelerator=gpu|cpu|mps, trainer.devices=<how many> (predict has device=)",
    "gpus": "where to compute: trainer.accelerator=gpu trainer.devices=<how many>",
    "conf": "the least score of boxes: predict has min_score=",
    "iou": "the overlap at which a box suppresses another goes with the weights: eval and export have "
    "tasks.<task>.iou_threshold=",
    "max_det": "the most boxes of a picture go with the weights: eval and export have tasks.<task>.max_detections=",
    "save_txt": "save=yolo writes text files of boxes, and results.json has those of every picture",
    "imgsz": "the size of a network's input goes with its weights; predict takes pictures of any size",
    "threshold": "the least score of boxes: predict has min_score=, or thresholds=<file> for each class",
    "patience": "say trainer.patience=<epochs without a better val/score>",
    "batch_size": "it is called batch",
    "img_size": "it is called imgsz",
    "image_size": "it is called imgsz",
    "size": "it is called imgsz",
    "lr0": "it is called lr",
    "learning_rate": "it is called lr",
    "num_workers": "it is called workers",
    "model": "say task=<task> backbone=<backbone>, or weights=<name or path>",
    "name": "a run of train has name=<word>; predict, eval and export write to out=<file or folder>",
    "project": "say runs=<folder> for where run folders are made, name=<word> for what one is called",
    "pretrained": "say weights=auto, weights=imagenet or weights=none",
    "precision": "say trainer.precision=32-true, 16-mixed or bf16-mixed",
    "accelerator": "say trainer.accelerator=cpu, gpu or mps",
    "devices": "say trainer.devices=<how many>",
    "root": "say data.root=<folder>",
    "images": "say source=<image, folder, glob or list> to predict, data.images=<folder> to train on masks",
    "weight_decay": "say optim.weight_decay=<number>",
    "momentum": "say optim.optimizer.momentum=<number>",
    "imgs": "say source=<image, folder, glob or list>",
    "input": "say source=<image, folder, glob or list>",
}
OF_TASKS = {
    "detection": "Detectors are task=ssdlite and task=ssd. ",
    "detect": "Detectors are task=ssdlite and task=ssd. ",
    "segmentation": "Segmentation is task=mobile_deeplabv3 or task=deeplabv3. ",
    "segment": "Segmentation is task=mobile_deeplabv3 or task=deeplabv3. ",
    "classify": "It is task=classification. ",
}
DRAWN = "data=shapes is drawn and lies nowhere: say what your files are, data=folder (or coco, voc, imagenet). "


def hint(key: str, option: str = "") -> str:
    """A sentence before what else there is to say of an unknown key, or of a group's unknown option; "" without one.

    Args:
        option: of the group that `key` names.
    """
    if option and key == "data" and ("." in option or "/" in option or "\\" in option):
        return f"It names a kind of data; yours is data=folder data.root={option}. "
    if option:
        return OF_TASKS.get(option, "") if key == "task" else ""
    said = OF_KEYS.get(key.rpartition(".")[2], "")
    return f"{said[0].upper()}{said[1:]}. " if said else ""


def as_key_and_value(word: str) -> str:
    """`--epochs=5` and `epochs:5` as they are said here; "" where it is neither, or a flag of Hydra's."""
    if re.match("--(cfg|config|package|info|resolve|shell|hydra|exp)", word):
        return ""
    found = re.fullmatch(r"--?([A-Za-z][\w.]*)=(.*)|([A-Za-z][\w.]*):(?![\\/])\s*(.+)", word)
    return f"{found[1] or found[3]}={found[2] or found[4] or ''}" if found else ""
