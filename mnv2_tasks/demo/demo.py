"""demo(config): the page of format=web, shown to the browsers of this machine."""

import contextlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory

from omegaconf import DictConfig
from rich.console import Console

from mnv2_tasks.config.compose import compose
from mnv2_tasks.demo.server import page_server
from mnv2_tasks.errors import ConfigError
from mnv2_tasks.export.export import export
from mnv2_tasks.export.web import is_page


def demo(config: DictConfig) -> None:
    """Make the folder, where `weights` is not one already, and serve it until the command is ended.

    Raises:
        ConfigError: the folder cannot be made, is not one of ours, or the port is taken.
    """
    given = Path(os.path.expanduser(str(config.weights)))
    made = is_page(given)
    if made and config.out is not None:
        raise ConfigError(f"out={config.out}: weights={given} is a folder already, which is shown where it is")
    with contextlib.ExitStack() as stack:
        folder = given if made else Path(config.out or stack.enter_context(TemporaryDirectory()) + "/demo")
        server = stack.enter_context(page_server(folder.expanduser(), config.port))  # before minutes of work
        if not made:
            keys = ("weights", "precision", "ort", "trust")
            words = [f"{key}={config[key]}" for key in keys if config[key] is not None]
            export(compose("export", [*words, "format=web", f"out={folder}"]))
        host, port = server.server_address[:2]
        Console(highlight=False, markup=False, soft_wrap=True).print(f"see it: http://{host}:{port}/ (Ctrl-C ends it)")
        server.serve_forever()
