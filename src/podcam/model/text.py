"""Strangers' text: what comes from packets, files and clips of somebody else."""


def printable(text: str) -> str:
    """Text from packets and files with everything escaped that could steer a terminal or hide its meaning."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def printable_lines(text: str) -> str:
    """The same of text that may have several lines."""
    return "\n".join(map(printable, text.split("\n")))
