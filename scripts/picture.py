"""Draw README's picture anew: what `podcam demo` prints in a terminal, as docs/demo.svg.

usage: .venv/bin/python scripts/picture.py
"""

import fcntl
import io
import os
import pty
import re
import struct
import sys
import tempfile
import termios
from pathlib import Path

from rich.console import Console
from rich.text import Text

_COLUMNS, _LINES = 124, 60
_PICTURE = Path(__file__).parent.parent / "docs" / "demo.svg"
_BIN = Path(sys.executable).parent


def _demo(folder: str) -> str:
    """What the demo prints in a terminal of that size, escape sequences and all."""
    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", _LINES, _COLUMNS, 0, 0))
        os.chdir(folder)
        path = f"{_BIN}:{os.environ['PATH']}"
        environment = os.environ | {"TERM": "xterm-256color", "COLORTERM": "truecolor", "PATH": path}
        os.execve(_BIN / "podcam", [str(_BIN / "podcam"), "demo", "--keep", "story"], environment)
    printed = bytearray()
    try:
        while data := os.read(terminal, 65536):
            printed += data
    except OSError:  # EIO: the terminal's other side is gone
        pass
    _, status = os.waitpid(child, 0)
    if status:
        sys.exit(f"podcam demo failed: {printed.decode()}")
    return printed.decode().replace("\r\n", "\n")


def main() -> None:
    """Play the demo and draw it."""
    with tempfile.TemporaryDirectory() as folder:
        printed = _demo(folder)
    console = Console(record=True, width=_COLUMNS, file=io.StringIO())
    console.print(Text.from_ansi(f"$ podcam demo\n{printed}"))
    svg = console.export_svg(title="podcam demo")
    # No fonts from elsewhere: any monospace one will do, if it keeps the spaces.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    _PICTURE.write_text(svg.replace("<svg ", '<svg xml:space="preserve" ', 1))


if __name__ == "__main__":
    main()
