"""Runtimes whose pods' connections are not in a network namespace of the node."""

_SANDBOXES = {
    "kata": "a virtual machine of its own (Kata Containers)",
    "runsc": "a network stack of its own (gVisor)",
    "gvisor": "a network stack of its own (gVisor)",
}
"""By how the names of their handlers begin."""


def sandbox_of(handler: str) -> str | None:
    """What a handler of a runtime class gives each pod, where that hides its connections; None elsewhere."""
    return next((what for beginning, what in _SANDBOXES.items() if handler.startswith(beginning)), None)
