"""Config -> data sources, tasks, network: where the concrete parts meet."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from mnv2_tasks.config.compose import compose
from mnv2_tasks.config.words import texts
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.deep import FULL, white_above
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.data.reading.file_source import FileSource
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.importing import imported
from mnv2_tasks.layers import mend_convolutions
from mnv2_tasks.network.network import Network
from mnv2_tasks.stored.checked_config import COMMAND_URL
from mnv2_tasks.weights.find import find_weights
from mnv2_tasks.weights.passport import make_passport
from mnv2_tasks.weights.weight_files import Weights, load_weights

log = logging.getLogger(__name__)


def target_of(config: Any) -> Any:
    """The class or function that `_target_` names.

    Raises:
        ConfigError: it cannot be imported.
    """
    return imported(config["_target_"], "_target_")


def partial_of(config: Any) -> Callable[..., Any]:
    """`_target_` with the config's values filled in, to be called with parts that are already built.

    Partial first: instantiate() would turn parts passed to it into configs.

    Raises:
        ConfigError: when it is called, if it cannot be made of these values.
    """
    target_of(config)
    values = OmegaConf.to_container(config, resolve=True) if OmegaConf.is_config(config) else config
    # a path with `${` in it is text to Hydra too, who resolves twice
    make = hydra.utils.instantiate(texts(texts(values)), _partial_=True, _convert_="all")

    def made(*parts: Any, **named: Any) -> Any:
        try:
            return make(*parts, **named)
        except (ConfigError, DataError):
            raise
        except (TypeError, ValueError, ArithmeticError, LookupError) as error:  # what torch raises for bad values
            raise ConfigError(f"{config['_target_']}: cannot be made of its settings ({error})") from error

    return made


def task_kinds(config: DictConfig) -> dict[str, str]:
    """{task name: kind}, in order."""
    return {name: target_of(task).kind for name, task in config.tasks.items()}


def data_name(config: DictConfig, task: str) -> str:
    """The name of a task's data set: `data.<task>=`, else `data=`."""
    return (config.choices.get("datasets") or {}).get(task, config.choices.data)


def data_config(config: DictConfig, task: str) -> DictConfig:
    """The keys of a task's data set."""
    return config.data.get(task, config.data)


def build_sources(config: DictConfig) -> dict[str, DataSource]:
    """{task name: its data set}, not read yet.

    Raises:
        ConfigError: a data set was chosen for a task that there is not, or its place is a command.
    """
    for task in config.choices.get("datasets") or {}:
        if task not in config.tasks:
            raise ConfigError(f"data.{task}: this run has no task {task}; it has {', '.join(config.tasks)}")
    for task in config.tasks:
        root = str(data_config(config, task).get("root"))
        if COMMAND_URL.match(root) and not config.trust:
            raise ConfigError(f"data.root={root}: is read by a command that is run on this machine. Say trust=true too")
    sources = {n: partial_of(data_config(config, n).source)(kind=kind) for n, kind in task_kinds(config).items()}
    for name, source in sources.items():
        if isinstance(source, FileSource):
            source.white = config.input.get("white")
            source.verify = data_config(config, name).get("verify", "auto")  # others' data sets, and runs, have none
    return sources


def settle_white(config: DictConfig, sources: Mapping[str, DataSource]) -> None:
    """One white for the 16-bit pictures of all tasks, in the config, from which weights take it along.

    Args:
        sources: read and verified.
    """
    files = [source for source in sources.values() if isinstance(source, FileSource)]
    if config.input.get("white") is None:
        config.input.white = white_above(max((peak for source in files for peak in source.peaks.values()), default=0))
    for source in files:
        source.white = config.input.white


def trained_tasks(config: DictConfig) -> list[str]:
    """The tasks whose loss changes anything: all of them, unless the backbone is frozen, too.

    Raises:
        ConfigError: there are none.
    """
    trained = [name for name in config.tasks if "backbone" not in config.freeze or name not in config.freeze]
    if not trained:
        raise ConfigError(f"freeze={list(config.freeze)}: leaves nothing to train")
    return trained


def class_names_of(sources: dict[str, DataSource]) -> dict[str, list[str]]:
    return {name: source.class_names for name, source in sources.items()}


def ground_truths_of(sources: dict[str, DataSource]) -> dict[str, dict[str, Any]]:
    """{detection task: its validation boxes in COCO's format}, which its metric compares with."""
    return {name: source.coco_ground_truth() for name, source in sources.items() if source.kind == "detection"}


def build_network(
    config: DictConfig,
    class_names: dict[str, list[str]],
    ground_truths: dict[str, dict[str, Any]] | None = None,
    further_taps: Sequence[str] = (),
) -> Network:
    """The backbone with the taps that the heads read, and the tasks, freshly initialised.

    Args:
        config: needs the keys of `passport.NETWORK_KEYS`, as a passport has them.
        class_names: {task name: names}; their number sizes the head.
        ground_truths: {task name: validation boxes in COCO's format}, for the detection tasks' metric.
        further_taps: of the backbone, that no head of these reads.
    """
    heads = {name: target_of(task.head) for name, task in config.tasks.items()}
    taps = sorted({tap for head in heads.values() for tap in head.taps} | {*further_taps})
    backbone = partial_of(config.backbone)(taps=taps)
    mend_convolutions(backbone)
    tasks = {}
    for name, task in config.tasks.items():
        parts: Any = OmegaConf.to_container(task, resolve=True)
        names = class_names[name]
        head = partial_of(parts.pop("head"))(features=backbone.features, num_classes=len(names))
        _check_sizes(config, head, name)
        extra = {"loss": partial_of(parts.pop("loss"))()} if "loss" in parts else {}  # some had none before 0.2
        if target_of(task).kind == "detection":
            extra |= {
                "ground_truth": (ground_truths or {}).get(name),
                "backend": OmegaConf.select(config, "eval.backend", default="hotcoco"),  # passports have no such key
            }
        tasks[name] = partial_of(parts)(head=head, class_names=names, **extra)
    return Network(backbone=backbone, tasks=tasks, mean=list(config.input.mean), std=list(config.input.std))


def _check_sizes(config: DictConfig, head: Any, task: str) -> None:
    multiple = getattr(head, "size_multiple", 1)
    for key in ("imgsz", "train_imgsz"):
        if (config.get(key) or 0) % multiple:
            fits = -(-config[key] // multiple) * multiple
            raise ConfigError(f"{key}={config[key]}: {task} needs a multiple of {multiple} pixels, such as {fits}")


def build_fit(config: DictConfig) -> Fit:
    """How images become inputs when nothing is random; `config` may be a passport's."""
    settings = config.input
    white = FULL if settings.get("white") is None else settings.white  # weights of before 0.2, and others', have none
    return Fit(mode=settings.fit, size=config.imgsz, resize=settings.resize, fill=list(settings.mean), white=white)


def load_with_passport(path: Path, *, trust: bool = False) -> Weights:
    """Weights of this project, or others' with the passport of the network that their overrides compose to.

    Args:
        trust: the file is the user's own: its passport may name any class.

    Raises:
        ConfigError: as `load_weights`, or their network needs what is gone.
    """
    weights = load_weights(path, trust=trust)
    if isinstance(weights, Weights):
        return weights
    config = compose("train", weights.overrides)
    passport = make_passport(config, weights.class_names, f"imported from {weights.family}")
    return Weights(weights.state, passport, weights.family, weights.left_out, weights.header)


def load_network(weights: str, *, trust: bool = False) -> tuple[Network, dict[str, Any]]:
    """The network that a file of weights describes, in evaluation mode on the CPU, and its passport.

    Args:
        trust: see `load_with_passport`.
    """
    path = find_weights(weights)
    state, passport, *_ = load_with_passport(path, trust=trust)
    with no_larger_than(state, str(path)):
        network = build_network(DictConfig(passport["config"]), passport["class_names"])
    load_strictly(network, state, str(path))
    return network.eval(), passport


@contextmanager
def no_larger_than(state: dict[str, Tensor], source: str) -> Iterator[None]:
    """Within, a network is built for these tensors; one that is larger is refused before it fills the memory.

    Raises:
        ConfigError: its parameters outnumber those of the file by far.
    """
    left = 2 * sum(tensor.numel() for tensor in state.values()) + 2**24  # a part may make more than it keeps

    def count(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= 0 if parameter is None else max(1, parameter.numel())
        if left < 0:
            raise ConfigError(f"{source}: its configuration is of a larger network than its tensors")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    except ConfigError as error:
        raise error if str(error).startswith(source) else ConfigError(f"{source}: {error}") from error
    except RuntimeError as error:  # torch cannot even reserve it
        raise ConfigError(f"{source}: its network cannot be built ({str(error).splitlines()[0]})") from None
    finally:
        hook.remove()


def load_tasks(network: Network, state: dict[str, Tensor], source: str) -> None:
    """Load a network that may have fewer tasks than `state`, strictly otherwise."""
    wanted = network.state_dict()
    load_strictly(network, {name: tensor for name, tensor in state.items() if name in wanted}, source)


def load_strictly(network: Network, state: dict[str, Tensor], source: str) -> None:
    """Load a whole network; its mean and std stay its own where `state` has none.

    Raises:
        ConfigError: a tensor is missing, left over, or of another shape.
    """
    own = network.state_dict()
    state = {name: own[name] for name in ("mean", "std")} | state
    if missing := [n for n in own if n not in state]:
        raise ConfigError(f"{source}: lacks {len(missing)} tensors of this network, such as {missing[0]}")
    wrong = [n for n in state if n not in own] + [n for n in own if own[n].shape != state[n].shape]
    if wrong:
        raise ConfigError(f"{source}: {len(wrong)} tensors do not fit this network, such as {wrong[0]}")
    network.load_state_dict(state)
