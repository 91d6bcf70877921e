"""A sheet of pictures with what a network finds in them."""

from pathlib import Path

from mnv2_tasks.contracts import DataSource
from mnv2_tasks.data.images.fit import Fit
from mnv2_tasks.drawing.picture_files import write_picture
from mnv2_tasks.drawing.predictions import sheet
from mnv2_tasks.network.network import Network
from mnv2_tasks.prediction.predictor import predict_images
from mnv2_tasks.prediction.results import draw_results


def save_samples(network: Network, sources: dict[str, DataSource], fit: Fit, path: Path, count: int = 12) -> None:
    """One sheet with the predictions of every task on the first validation images."""
    network.eval()
    source = next(iter(sources.values()))
    images = [source.sample("val", 0, i).image for i in range(min(count, source.length("val")))]
    pictures = [
        draw_results(image, results, network.tasks)
        for image, results in zip(images, predict_images(network, images, fit))
    ]
    path.parent.mkdir(exist_ok=True)
    write_picture(path, sheet(pictures, columns=3 if len(network.tasks) == 1 else 2))
