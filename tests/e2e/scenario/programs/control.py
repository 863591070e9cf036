"""How a test tells the scenario's programs what to do, and asks what they did: GET, answered in JSON."""

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

PORT = 8080

Route = Callable[[Mapping[str, str]], object]


def serve(routes: Mapping[str, Route]) -> None:
    """Answer in a thread: each path has a function from the query's values to the answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            url = urlsplit(self.path)
            route = routes.get(url.path)
            answer = b"" if route is None else json.dumps(route(dict(parse_qsl(url.query)))).encode()
            self.send_response(404 if route is None else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: object) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
