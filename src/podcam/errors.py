"""What can go wrong, by who must act. Caught once, in `podcam.cli.main`.

A message says what happened, to what, and what to do. Lost packets are counters, not exceptions.
"""


class PodcamError(Exception):
    """Anything that Podcam tells its user in one line instead of a traceback."""

    exit_code = 1


class UsageError(PodcamError):
    """The command, a flag or a file name is wrong: the user changes the command."""

    exit_code = 2


class RightsError(PodcamError):
    """The system refuses: the user, or an administrator, grants a right."""


class CaptureError(PodcamError):
    """The kernel cannot record as asked: a namespace, interface, filter or ring."""


class SegmentError(PodcamError):
    """A segment of a ring cannot be written or read."""


class StorageFullError(SegmentError):
    """The file system of the ring has no room; nothing that was written is lost."""


class ClipError(PodcamError):
    """A clip cannot be made, found, or exported."""


class CaptureFileError(PodcamError):
    """A file is not a capture that Podcam can read."""


class KubernetesError(PodcamError):
    """A cluster's API server did not do what it was asked to.

    Attributes:
        status: HTTP status; 0 when there was no answer.
        reason: the API server's one word for it (`AlreadyExists`, `Conflict`), "" when it gave none.
        retry_after_seconds: how long the API server asks to be left alone; None when it does not.
    """

    def __init__(
        self, message: str, *, status: int = 0, reason: str = "", retry_after_seconds: float | None = None
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.retry_after_seconds = retry_after_seconds


class UnreachableError(KubernetesError):
    """No answer from the API server: away, refused, too slow, or not who it should be."""


class UnauthorizedError(KubernetesError):
    """401: the API server does not know who asks."""


class ForbiddenError(KubernetesError):
    """403: whoever asks may not do this. An administrator grants it, or an admission rule forbids it."""


class NotFoundError(KubernetesError):
    """404: there is no such object."""


class NotInstalledError(NotFoundError):
    """404: the API server does not know this kind of object."""


class ConflictError(KubernetesError):
    """409: `reason` AlreadyExists, or Conflict: somebody else changed or owns it."""


class GoneError(KubernetesError):
    """410: the API server no longer knows this version; list again."""


class InvalidError(KubernetesError):
    """422 or 400: the API server refuses the object; its own sentence says why."""


class InvalidObjectError(KubernetesError):
    """An object in the cluster is not what this version of Podcam can read."""
