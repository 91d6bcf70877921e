"""Hugging Face's hub on this machine: what huggingface_hub asks of it, and no more."""

import base64
import hashlib
import http.server
import json
import threading
from contextlib import contextmanager
from urllib.parse import unquote, urlsplit

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_owner"


class Hub(http.server.ThreadingHTTPServer):
    """One repository, owner/net, whose branch is main. Whoever has the token writes into `files`."""

    def __init__(self, files):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.made = files, [], []
        self.refuses = ""  # what is posted to an address that ends so

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self):
        path = self.named()
        files = self.server.files
        if path == ["api", "whoami-v2"] and self.may_write():
            return self.answer(b'{"name": "owner", "type": "user", "orgs": []}')
        if path[:4] == ["api", "models", "owner", "net"] and path[5:] in ([], ["main"], [COMMIT]):
            siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
            return self.answer(json.dumps({"id": "owner/net", "sha": COMMIT, "siblings": siblings}).encode())
        if path[:3] == ["owner", "net", "resolve"] and path[3] in ("main", COMMIT) and "/".join(path[4:]) in files:
            return self.answer(files["/".join(path[4:])])
        self.refuse(401 if path == ["api", "whoami-v2"] else 404)

    do_GET = do_HEAD

    def do_POST(self):
        path, content = self.named(), self.content()
        refused = self.server.refuses and "/".join(path).endswith(self.server.refuses)
        if refused or not self.may_write():
            return self.refuse(403)
        if path == ["api", "repos", "create"]:
            self.server.made.append(json.loads(content))
            return self.answer(json.dumps({"url": f"{self.server.address}/owner/net"}).encode())
        if path == ["api", "validate-yaml"]:  # of the card
            return self.answer(b'{"errors": [], "warnings": []}')
        if path == ["api", "models", "owner", "net", "preupload", "main"]:
            named = [file["path"] for file in json.loads(content)["files"]]
            modes = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in named]
            return self.answer(json.dumps({"files": modes}).encode())
        if path == ["api", "models", "owner", "net", "commit", "main"]:
            for line in map(json.loads, content.splitlines()):
                if line["key"] == "file":
                    self.server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            said = {"commitUrl": f"{self.server.address}/owner/net/commit/{COMMIT}", "commitOid": COMMIT}
            return self.answer(json.dumps(said).encode())
        self.refuse(404)

    def named(self):
        path = unquote(urlsplit(self.path).path).strip("/").split("/")
        self.server.asked.append("/".join(path))
        return path

    def content(self):
        if "Content-Length" in self.headers:
            return self.rfile.read(int(self.headers["Content-Length"]))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def may_write(self):
        return self.headers["Authorization"] == f"Bearer {TOKEN}"

    def refuse(self, status):
        self.send_response(status)
        self.send_header("X-Error-Code", "RepoNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


@contextmanager
def hub_on_this_machine(cache, monkeypatch):
    """A hub without files, which this process takes for Hugging Face's.

    Args:
        cache: where the library keeps what it fetches.
    """
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Hub({})
    monkeypatch.setattr(constants, "ENDPOINT", server.address)
    template = server.address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
