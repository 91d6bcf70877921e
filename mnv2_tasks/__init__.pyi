from mnv2_tasks.api import backbone, list_backbones, list_weights, load, train

__all__ = ["backbone", "list_backbones", "list_weights", "load", "train"]
__version__: str
