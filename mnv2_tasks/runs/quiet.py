"""Lightning without adverts, and without warnings about what is meant to be so."""

import logging
import sys
import types
import warnings

MEANT = [
    ".*isinstance.treespec, LeafSpec.*",  # Lightning 2.6 on torch 2.15
    ".*your dataloader is not resumable.*",  # TrainingSampler skips what was done
    ".*exists and is not empty.*",  # a resumed run goes on in its folder
    ".*smaller than the logging interval.*",
    ".*in eval mode at the start of training.*",  # what is frozen, see Network.freeze
    ".*does not have many workers.*",  # measured: see conf/recipe/*_shapes.yaml
]


def quiet_lightning() -> None:
    """To be called before a trainer, or a Fabric, is made: the banner says what matters."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for message in MEANT:
        warnings.filterwarnings("ignore", message)
    # where TensorFlow is installed TensorBoard would import it, for seconds and a gigabyte; this name tells it not to
    sys.modules.setdefault("tensorboard.compat.notf", types.ModuleType("notf"))
