"""A web server on this machine that breaks off, fails and refuses as it is told."""

import http.server
import threading
from contextlib import contextmanager


class Server(http.server.ThreadingHTTPServer):
    """Serves `files`; `cuts` are the numbers of bytes after which the next answers break off."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.cuts, self.failures = {}, [], []
        self.resumes, self.declares = True, True
        self.asked = []  # the Range header of each request

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/pub/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        server = self.server
        server.asked.append(self.headers["Range"])
        body = server.files.get(self.path.rsplit("/", 1)[-1])
        if body is None or server.failures:
            return self.send_error(server.failures.pop() if server.failures else 404)
        start = int(self.headers["Range"][6:-1]) if self.headers["Range"] and server.resumes else 0
        if start >= len(body):
            return self.send_error(416)
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.declares:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *_):
        pass


@contextmanager
def serving(files, monkeypatch):
    """A server of {name: content}."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server = Server()
    server.files = files
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:  # a test that fails ends, too
        server.shutdown()
        thread.join()
        server.server_close()
