"""Hold the pinned requirements to the rules: every one with its hashes, and no index named."""

import re
import sys
from pathlib import Path

_PINNED = re.compile(r"^[a-z0-9][a-z0-9-]*==[^ ]+( ; [^\\]+)?( --hash=sha256:[0-9a-f]{64})+$")
_FOLDER = Path(__file__).parent.parent / "requirements"


def problems(text: str) -> list[str]:
    """What is wrong with a requirements file, one line each."""
    logical = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [f"not pinned by hashes alone: {line[:80]}" for line in logical if not _PINNED.match(line)]


def main() -> int:
    """Exit code 1 when anything is wrong with any of the files."""
    found = [
        f"{path.name}: {problem}"
        for path in sorted(_FOLDER.glob("*.txt"))
        for problem in problems(path.read_text())
    ]
    print("\n".join(found) or "The requirements are pinned by hashes and name no index.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
