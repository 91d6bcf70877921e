"""prepare(config): a run that can begin, or the reason why it cannot, before anything is written."""

from pathlib import Path
from typing import Any, NamedTuple, cast

from omegaconf import DictConfig, OmegaConf

from mnv2_tasks.build import build_sources, class_names_of, settle_white
from mnv2_tasks.contracts import DataSource
from mnv2_tasks.evaluation.network_and_data import build_caches, build_data, build_tasks_network
from mnv2_tasks.heads.auxiliary import AuxiliaryHead
from mnv2_tasks.loading.caching import CachedPictures
from mnv2_tasks.loading.loaders import TasksData
from mnv2_tasks.network.allocator import keep_freed_memory
from mnv2_tasks.network.compiled import check_compiler
from mnv2_tasks.network.devices import choose_precision, scoring_precision
from mnv2_tasks.network.network import Network
from mnv2_tasks.runs.reproduce import ResumePoint, check_data, check_start, earlier_run, resume_point
from mnv2_tasks.runs.run_folder import command_line, describe_run
from mnv2_tasks.training.assemble import build_auxiliary, build_distillation, build_module, check_settings
from mnv2_tasks.training.batch_size import find_batch, fit_batch
from mnv2_tasks.training.initial_weights import draw_weights, start_from_weights
from mnv2_tasks.training.module import TasksModule
from mnv2_tasks.training.rare_classes import count_classes, repeat_factors, weigh_classes
from mnv2_tasks.weights.digest import digest_of
from mnv2_tasks.weights.passport import make_passport


class Prepared(NamedTuple):
    """A run that can begin: all that could be refused was looked at, and nothing is written yet."""

    config: DictConfig
    sources: dict[str, DataSource]
    network: Network
    data: TasksData
    caches: list[CachedPictures]  # of its training pictures, to be filled
    module: TasksModule
    precision: str  # to train in
    scored_in: str  # the precision of the scores at the end
    resumed: ResumePoint  # how far the run was that is resumed
    description: dict[str, Any]  # what goes into run.json


def prepare(config: DictConfig) -> Prepared:
    """Read the data, build the network, and copy the weights that it starts from.

    Raises:
        ConfigError, DataError: whatever would end the run later.
    """
    if config.trainer.compile:
        check_compiler(config.trainer.accelerator)
    check_settings(config)
    scored_in = scoring_precision(config.eval.precision, config.trainer.precision)
    keep_freed_memory()
    sources = build_sources(config)
    for source in sources.values():
        source.prepare(("train", "val"))
    settle_white(config, sources)
    fit_batch(config, sources)
    class_names = class_names_of(sources)
    network = build_tasks_network(config, sources, AuxiliaryHead.taps if config.auxiliary else ())
    draw_weights(network, cast(dict, OmegaConf.to_container(config.init_std)))
    network.freeze(config.freeze, norms=config.freeze_norms)
    resumed = resume_point(config)
    fingerprints = {name: source.fingerprint() for name, source in sources.items()}
    if earlier := earlier_run(config):
        check_data(earlier, fingerprints, class_names)
    counts = count_classes(config, sources)
    weigh_classes(config, network, counts)
    started_from = resumed.started_from or start_from_weights(network, config)
    passport = make_passport(config, class_names, command_line(), started_from)
    module = build_module(
        config, network, passport, build_distillation(config, network), build_auxiliary(config, network)
    )
    precision = choose_precision(config.trainer.precision)
    find_batch(config, sources, module, precision)
    data = build_data(config, sources, resumed.done, repeat_factors(config, counts))
    data.try_augmentation()
    caches = build_caches(config, data)  # its loaders refuse a batch larger than the data
    description = describe_run(
        config=config,
        fingerprints=fingerprints,
        data_sizes={
            name: {split: source.length(split) for split in ("train", "val")} for name, source in sources.items()
        },
        class_names=class_names,
        precision=precision,
        weights=started_from,
        initial_weights=digest_of(network.state_dict()),
    )
    if config.repeat:
        check_start(Path(config.repeat), description)
    return Prepared(config, sources, network, data, caches, module, precision, scored_in, resumed, description)
