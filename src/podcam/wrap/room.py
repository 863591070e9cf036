"""How much a ring may take of a volume that others may write to. Pure."""

_LEFT_FREE_SHARE = 20
_STEP_BYTES = 1_000_000


def limit_for(
    wanted_bytes: int, taken_bytes: int, free_bytes: int, total_bytes: int, least_bytes: int
) -> int:
    """What the ring may take so that a twentieth of the volume stays free, in steps of a megabyte.

    Args:
        wanted_bytes: what it may take where there is room.
        taken_bytes: what it takes now.
        free_bytes: of the volume.
        total_bytes: of the volume.
        least_bytes: less than that is no ring.
    """
    room = taken_bytes + free_bytes - total_bytes // _LEFT_FREE_SHARE
    return max(min(least_bytes, wanted_bytes), min(wanted_bytes, room // _STEP_BYTES * _STEP_BYTES))
