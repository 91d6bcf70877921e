"""What a program or a command line points at -> pictures, read one after the other."""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from PIL import Image
from rich.console import Console
from torch import Tensor

from mnv2_tasks.data.download.fetch import NotFetched, fetch
from mnv2_tasks.data.images.decode import JPEG, check_content, check_image, decode_image, from_pillow, read_image
from mnv2_tasks.data.images.deep import FULL
from mnv2_tasks.data.images.file_bytes import WEB
from mnv2_tasks.data.images.page_files import PAGED, Pages
from mnv2_tasks.data.scenes import draw_scene
from mnv2_tasks.errors import ConfigError, DataError
from mnv2_tasks.prediction.inputs import find_images, names_in

DEMO = "shapes"  # the source that needs no files
DEMO_SCENES, DEMO_SIZE = 8, 320
MOST_FETCHED = 100_000_000  # bytes of a picture at a URL

Picture: TypeAlias = str | os.PathLike[str] | bytes | Image.Image | np.ndarray | Tensor
ONE = (bytes, bytearray, memoryview, Image.Image, np.ndarray, Tensor)  # that are no names
EXPECTED = (
    "expected the path or the URL of a picture, the bytes of its file, a PIL image, a uint8 array (H, W, 3) or (H, W), "
    "a uint8 tensor (3, H, W), or a list or an iterator of them"
)


class Input(NamedTuple):
    """A picture that can be read, by any thread."""

    name: str
    read: Callable[[int], np.ndarray]  # white of 16-bit pictures -> (H, W, 3) uint8 RGB; raises DataError
    held: bool = False  # by the program, which may fill one buffer again and again: read before the next is asked for


def find_inputs(source: str) -> list[Input]:
    """Pictures at URLs and in files, each page and frame one of its own, or scenes of the embedded data.

    See `names_in` and `find_images`.
    """
    if source == DEMO:
        return [Input(f"{DEMO}_{i}", partial(_scene, i)) for i in range(DEMO_SCENES)]
    return [found for name in names_in(source) for found in _named(name)]


def _named(name: str) -> list[Input]:
    if name.startswith(WEB):
        return [Input(name, partial(_fetched, name))]
    return [found for path in find_images(name) for found in _in_file(path)]


def _in_file(path: Path) -> list[Input]:
    whole = Input(str(path), partial(_photo, path))
    return _pages(path, whole) if path.suffix.lower() in PAGED else [whole]


def _pages(file: Path | bytes, whole: Input) -> list[Input]:
    """Of a file that may have several; else it is one picture."""
    try:
        pages = Pages(file, whole.name)
    except DataError as error:
        return [Input(whole.name, partial(_refused, whole, error))]
    if pages.numbers == [1]:
        return [whole]
    return [Input(pages.name_of(number), partial(pages.read, number)) for number in pages.numbers]


def _refused(whole: Input, error: DataError, white: int = FULL) -> np.ndarray:
    whole.read(white)  # which may say it better
    raise error


def inputs_of(source: Picture | Iterable[Picture]) -> Iterator[Input]:
    """All pictures of what Python can hold them in.

    Raises:
        ConfigError: as `find_images`, or it is something else.
    """
    if is_one(source):
        yield from _inputs(source, "picture")
    elif isinstance(source, Iterable) and not isinstance(source, Mapping):
        for index, item in enumerate(source):
            yield from _inputs(item, f"picture {index}")
    else:
        raise ConfigError(f"{type(source).__name__} as a source: {EXPECTED}")


def is_one(source: object) -> bool:
    return isinstance(source, (str, os.PathLike, *ONE))


def _inputs(item: Any, name: str) -> list[Input]:
    if isinstance(item, str | os.PathLike):
        return find_inputs(os.fspath(item))
    if isinstance(item, np.ndarray | Tensor):
        return [Input(name, partial(_array, item, name), held=True)]
    if isinstance(item, Image.Image):
        name = getattr(item, "filename", "") or name
        return [Input(name, lambda white=FULL: from_pillow(item, name, white=white), held=True)]
    if isinstance(item, bytes | bytearray | memoryview):
        return pictures_in_bytes(bytes(item), name)
    raise ConfigError(f"{name}: is a {type(item).__name__}; {EXPECTED}")


def pictures_in_bytes(content: bytes, name: str) -> list[Input]:
    """Of a file's bytes: one, or its pages."""
    whole = Input(name, partial(encoded, content, name))
    return [whole] if not content or content.startswith(JPEG) else _pages(content, whole)


def _photo(path: Path, white: int = FULL) -> np.ndarray:
    check_image(path)
    return read_image(path, white=white)


def encoded(content: bytes, name: str, white: int = FULL) -> np.ndarray:
    """(H, W, 3) uint8 RGB of a file's bytes, which are checked. Raises DataError, see `read_image`."""
    if not content:
        raise DataError(f"{name}: is empty (0 bytes)")
    check_content(content, name)
    return decode_image(content, name, white=white)


def _fetched(url: str, white: int = FULL) -> np.ndarray:
    with TemporaryDirectory() as folder:
        quiet = Console(quiet=True, markup=False)
        path = Path(folder) / "picture"
        try:
            fetch(url, path, size=None, checksum=None, console=quiet, patient=False, most_bytes=MOST_FETCHED)
        except NotFetched as error:
            raise DataError(
                f"{url}: {error.reason}. Look at the address, or save the picture and name its file"
            ) from None
        image = encoded(path.read_bytes(), url, white)
        if (count := len(Pages(path, url).numbers)) > 1:
            raise DataError(f"{url}: has {count:,} pictures; save it, and name its file")
        return image


def _scene(index: int, white: int = FULL) -> np.ndarray:
    return draw_scene(0, "val", index, DEMO_SIZE).image


def _array(given: np.ndarray | Tensor, name: str, white: int = FULL) -> np.ndarray:
    """A copy of one's own, (H, W, 3) RGB: the program may go on writing into what it gave."""
    kind, layout = ("tensor", "(3, H, W)") if isinstance(given, Tensor) else ("array", "(H, W, 3)")
    shape, of_type = tuple(given.shape), str(given.dtype).removeprefix("torch.")
    what = f"{name}: is {'an' if kind == 'array' else 'a'} {kind} {shape} of {of_type}"
    if isinstance(given, Tensor):  # NumPy has no bfloat16
        held = given.detach().cpu()
        pixels = (held.float() if held.is_floating_point() else held).numpy()
    else:
        pixels = given
    if pixels.ndim == 4:
        raise DataError(f"{what}, which looks like a batch; give a list of its pictures, list(batch)")
    if isinstance(given, Tensor) and pixels.ndim == 3:
        pixels = pixels.transpose(1, 2, 0)
    if pixels.ndim not in (2, 3) or pixels.ndim == 3 and pixels.shape[2] not in (1, 3, 4):
        turned = "; .transpose(1, 2, 0) makes it so" if kind == "array" and shape[:1] in ((1,), (3,)) else ""
        turned = "; .permute(2, 0, 1) makes it so" if kind == "tensor" and shape[-1:] in ((1,), (3,)) else turned
        raise DataError(f"{what}; expected uint8 RGB {layout}, or grey (H, W){turned}")
    if pixels.size == 0:
        raise DataError(f"{what}, which has no pixels")
    if pixels.dtype != np.uint8:
        raise DataError(f"{what}; expected uint8, 0 to 255{_remedy(pixels, kind)}")
    if pixels.ndim == 2 or pixels.shape[2] == 1:
        return np.repeat(pixels.reshape(*pixels.shape[:2], 1), 3, axis=2)
    return np.array(pixels[..., :3], order="C")


def _remedy(pixels: np.ndarray, kind: str) -> str:
    """How values of another type become uint8."""
    to_uint8 = ".astype(np.uint8)" if kind == "array" else ".to(torch.uint8)"
    if pixels.dtype.kind == "f":
        if not np.isfinite(pixels).all():
            return "; it holds values that are NaN or infinite"
        low, high = float(pixels.min()), float(pixels.max())
        if 0 <= low and high <= 1:
            return f"; (255 * picture).round(){to_uint8} makes it so, of values from 0 to 1"
        if 0 <= low and high <= 255:
            return f"; picture.round(){to_uint8} makes it so"
        return f"; its values go from {low:.3g} to {high:.3g}: give the pixels as they were before they were normalised"
    if pixels.dtype.kind in "ui" and pixels.min() >= 0 and pixels.max() <= 255:
        return f"; picture{to_uint8} makes it so"
    if pixels.dtype == np.uint16:
        return f"; (picture // 257){to_uint8} makes it so, where 65535 is white"
    if pixels.dtype.kind == "b":
        return f"; 255 * picture{to_uint8} makes it so"
    return ""
