"""Train a network on four scenes until it knows them by heart: the shortest proof that a task's parts fit together."""

import torch

from mnv2_tasks.build import build_network, build_sources, class_names_of, partial_of
from mnv2_tasks.config.compose import compose
from mnv2_tasks.loading.collate import Item, collate
from mnv2_tasks.optim import parameter_groups


def scenes(config, sources):
    """{task: the batch of four scenes}."""
    size = (config.imgsz, config.imgsz)
    return {
        name: collate(source.kind, [Item(source.sample("val", 0, i), size, size) for i in range(4)])
        for name, source in sources.items()
    }


def overfit(task, *overrides, steps=150, lr=0.004, spoil=lambda batches: batches):
    """Metrics of `task` on four scenes after training on what `spoil` makes of them."""
    fixed = ["data.source.val_size=4", "weights=none", "width=0.35", "imgsz=96"]
    config = compose("train", [f"task={task}", *fixed, *overrides])
    sources = build_sources(config)
    truths = {name: source.coco_ground_truth() for name, source in sources.items()}
    torch.manual_seed(0)
    network = build_network(config, class_names_of(sources), truths)
    network.to(memory_format=torch.channels_last).train()
    optimizer = partial_of(config.optim.optimizer)(parameter_groups({network: 1.0}, 0.0))
    batches = scenes(config, sources)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * (1 - step / steps)
        spoiled = spoil(batches)
        losses = network.loss(network.outputs(spoiled), spoiled)
        optimizer.zero_grad()
        sum(sum(terms.values()) for terms in losses.values()).backward()
        optimizer.step()
    network.eval()
    metrics = {}
    with torch.no_grad():
        for name, of_task in network.tasks.items():
            batch = batches[name]
            of_task.metric.update(of_task.results(network.output(name, batch.images), batch.frames), batch)
            metrics[name] = of_task.metric.compute()
    return metrics
