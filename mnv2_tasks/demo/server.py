"""A folder of files, served to this machine alone."""

from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from mnv2_tasks.errors import ConfigError

HOST = "127.0.0.1"  # browsers give it the camera without HTTPS


class _Handler(SimpleHTTPRequestHandler):
    # a module of another type is not run; what the machine says of .js may be text/plain
    extensions_map = SimpleHTTPRequestHandler.extensions_map | {
        ".js": "text/javascript",
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
        ".json": "application/json",
        ".svg": "image/svg+xml",
        ".onnx": "application/octet-stream",
    }

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # of another export under the same address
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: the address is all that a user needs to see."""


def page_server(folder: Path, port: int) -> ThreadingHTTPServer:
    """
    Raises:
        ConfigError: the port cannot be had.
    """
    try:
        return ThreadingHTTPServer((HOST, port), partial(_Handler, directory=str(folder)))
    except (OSError, OverflowError) as error:
        raise ConfigError(f"port={port}: cannot be had ({error}); take another, or port=0 for a free one") from None
