"""Sizes as the custom resources spell them."""

_UNITS = (("G", 10**9), ("Gi", 2**30), ("M", 10**6), ("Mi", 2**20), ("k", 10**3), ("Ki", 2**10))


def quantity(size_bytes: int) -> str:
    """`25M`, `64Ki`: the shortest spelling; what no unit divides is rounded up to whole kilobytes."""
    for unit, factor in _UNITS:
        if size_bytes % factor == 0:
            return f"{size_bytes // factor}{unit}"
    return f"{-(-size_bytes // 1000)}k"
