"""Tell which tests skipped and why; fail if any did for want of what this machine has.

usage: skipped_tests.py JUNIT.xml
"""

import os
import sys
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

_EXCUSED = (
    "../shared",  # captures that lie beside the repository on some machines only
    "tshark 4.0",  # Debian 12 has it, later systems have newer ones
    "outside root's home",
    "may not be run by another user",
    "gives ordinary users no user namespaces",
)
"""What no set-up of ours can bring about, in the words of the tests."""


def main() -> int:
    """Exit code 1 when a test skipped that must not skip as root on a machine that `make test` set up."""
    suites = ET.parse(Path(sys.argv[1])).getroot()
    reasons = Counter(skip.get("message", "") for skip in suites.iter("skipped"))
    for reason, times in reasons.most_common():
        print(f"{times:4} {reason}")
    if not reasons:
        print("   0")
    unexpected = [reason for reason in reasons if not any(excuse in reason for excuse in _EXCUSED)]
    if unexpected and _may_do_everything():
        print("As root, with all programs installed and namespaces allowed, nothing of this may skip.")
        return 1
    return 0


def _may_do_everything() -> bool:
    return os.geteuid() == 0 and os.system("unshare --net true 2>/dev/null") == 0


if __name__ == "__main__":
    sys.exit(main())
