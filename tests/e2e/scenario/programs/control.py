"""How a test tells the scenario's programs what to do, and asks what they did: JSON over HTTP."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

PORT = 8080

Route = Callable[[Mapping[str, Any]], object]


def serve(routes: Mapping[str, Route]) -> None:
    """Answer in a thread: each path has a function from the body (empty for GET) to the answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer({})

        def do_POST(self) -> None:
            self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        def _answer(self, body: Mapping[str, Any]) -> None:
            route = routes.get(self.path)
            answer = b"" if route is None else json.dumps(route(body)).encode()
            self.send_response(404 if route is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
