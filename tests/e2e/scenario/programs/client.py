"""The app of the scenario: looks its database's name up, logs in, asks one question, leaves, and comes again.

Prints a JSON line per connection. usage: client HOST PORT INTERVAL_S
"""

import json
import socket
import sys
import threading
import time

from podcam.demo.app import DatabaseError, Login, Session

_USER, _PASSWORD, _DATABASE = "app", "dashcam", "postgres"
_TIMEOUT_S = 20.0
"""A machine that stands still for seconds is no failure of the database."""


def _connect(host: str, port: int) -> dict[str, object]:
    told: dict[str, object] = {
        "time_ns": time.time_ns(),
        "server_ip": None,
        "client_port": None,
        "error": None,
    }
    try:
        told["server_ip"] = server = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
        with Session(Login(str(server), port, _USER, _PASSWORD, _DATABASE, timeout_s=_TIMEOUT_S)) as session:
            told["client_port"] = session.port
            session.log_in()
            session.query("select 1")
            session.leave()
    except (DatabaseError, OSError) as error:
        told["error"] = str(error)
    return told


def main() -> None:
    host, port, interval_s = sys.argv[1:]
    pause = threading.Event()
    while True:
        print(json.dumps(_connect(host, int(port))), flush=True)
        pause.wait(float(interval_s))


if __name__ == "__main__":
    main()
