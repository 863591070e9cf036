"""An app in Python: meets a refused connection, and ends with 3."""

import socket
import sys
import time

print("the app runs", flush=True)
for _ in range(10):
    with socket.socket() as sock:
        sock.connect_ex(("127.0.0.1", 9))
    time.sleep(0.1)
sys.exit(3)
