"""Train a network on four scenes until it knows them by heart: the shortest proof that a task's parts fit together."""

import torch

from mnv2_tasks.build import build_network, build_source, class_names_of, partial_of, task_kinds
from mnv2_tasks.config import compose
from mnv2_tasks.data.collate import collate
from mnv2_tasks.optim import parameter_groups


def scenes(config, source):
    """{task: the batch of four scenes}."""
    items = [(source.sample("val", 0, i), (config.imgsz, config.imgsz)) for i in range(4)]
    return {name: collate(kind, items) for name, kind in task_kinds(config).items()}


def overfit(task, *overrides, steps=150, spoil=lambda batches: batches):
    """Metrics of `task` on four scenes after training on what `spoil` makes of them."""
    fixed = ["data.source.val_size=4", "weights=none", "width=0.35", "imgsz=96"]
    config = compose("train", [f"task={task}", *fixed, *overrides])
    source = build_source(config)
    torch.manual_seed(0)
    network = build_network(config, class_names_of(source, config), source.coco_ground_truth())
    network.to(memory_format=torch.channels_last).train()
    optimizer = partial_of(config.optim.optimizer)(parameter_groups(network, 0.0))
    batches = scenes(config, source)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 0.004 * (1 - step / steps)
        losses = network.loss(spoil(batches))
        optimizer.zero_grad()
        sum(sum(terms.values()) for terms in losses.values()).backward()
        optimizer.step()
    network.eval()
    metrics = {}
    with torch.no_grad():
        for name, of_task in network.tasks.items():
            batch = batches[name]
            of_task.metric.update(of_task.predict(network.features(batch.images), batch.original_sizes), batch)
            metrics[name] = of_task.metric.compute()
    return metrics
