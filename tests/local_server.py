"""An HTTP server on this machine that breaks off, ignores ranges or lies, as a test wants it."""

import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Server(ThreadingHTTPServer):
    """`files` are served by path. `asked` has the Range header of each request, None where there was none.

    cuts: after how many bytes the next answers break off. statuses: of the next answers, instead of what they should
    be. ranges: whether parts are served. shift: added to where a part begins. sized: whether Content-Length is sent.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.asked, self.cuts, self.statuses = {}, [], [], []
        self.ranges, self.shift, self.sized = True, 0, True

    def url(self, name):
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        server, header = self.server, self.headers.get("Range")
        server.asked.append(header)
        if server.statuses and (status := server.statuses.pop(0)) != 200:
            return self.send_error(status)
        body, start = server.files[self.path[1:]], 0
        if header and server.ranges:
            start = int(header.removeprefix("bytes=").removesuffix("-")) + server.shift
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if server.sized:
            self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        self.wfile.write(body[start:][: server.cuts.pop(0) if server.cuts else None])

    def log_message(self, *_):
        pass


@contextmanager
def running():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
