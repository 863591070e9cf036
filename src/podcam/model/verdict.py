"""The ids that appear in JSON, reports and docs: stable names, never renamed."""

from enum import StrEnum


class VerdictId(StrEnum):
    """What became of a connection. `docs/verdicts/` has a page for each."""

    OK = "ok"
    PARTIAL = "partial"
    CONNECT_REFUSED = "connect-refused"
    CONNECT_UNREACHABLE = "connect-unreachable"
    CONNECT_TIMEOUT = "connect-timeout"
    HANDSHAKE_INCOMPLETE = "handshake-incomplete"
    HANDSHAKE_ABORTED = "handshake-aborted"
    PROBE = "probe"
    RESET_BEFORE_DATA = "reset-before-data"
    CLOSED_BEFORE_DATA = "closed-before-data"
    RESET_DURING_STARTUP = "reset-during-startup"
    CLOSED_DURING_STARTUP = "closed-during-startup"
    STARTUP_TIMEOUT = "startup-timeout"
    STARTUP_REJECTED = "startup-rejected"
    TLS_REJECTED = "tls-rejected"
    TLS_TIMEOUT = "tls-timeout"
    WRONG_PROTOCOL = "wrong-protocol"
    RESET_MID_REQUEST = "reset-mid-request"
    CLOSED_MID_REQUEST = "closed-mid-request"
    RESET_IDLE = "reset-idle"
    CLOSED_IDLE = "closed-idle"
    SESSION_TERMINATED = "session-terminated"
    PEER_VANISHED = "peer-vanished"
    ZERO_WINDOW_STALL = "zero-window-stall"
    MTU_BLACK_HOLE = "mtu-black-hole"
    PORT_REUSE_CONFLICT = "port-reuse-conflict"
    DNS_FAILED = "dns-failed"
    LOSSY = "lossy"
    SLOW_START = "slow-start"


class Fault(StrEnum):
    """The side whose packet ended a connection, or whose silence did."""

    CLIENT = "client"
    SERVER = "server"
    NETWORK = "network"
    UNKNOWN = "unknown"
    NONE = "none"


class Phase(StrEnum):
    """The furthest phase that a connection reached; `DATA` where the protocol is not known."""

    CONNECT = "connect"
    HANDSHAKE = "handshake"
    TLS = "tls"
    STARTUP = "startup"
    AUTHENTICATION = "authentication"
    READY = "ready"
    REQUEST = "request"
    IDLE = "idle"
    CLOSING = "closing"
    DATA = "data"


class Protocol(StrEnum):
    """What a connection speaks, told by content and never by port."""

    POSTGRESQL = "postgresql"
    TLS = "tls"
    MYSQL = "mysql"
    REDIS = "redis"
    HTTP = "http"
    DNS = "dns"
    UNKNOWN = "unknown"


class FailureClass(StrEnum):
    """What the wire detector can tell from control packets alone."""

    REFUSED = "refused"
    UNREACHABLE = "unreachable"
    NO_ANSWER = "no-answer"
    HANDSHAKE_RESET = "handshake-reset"
    RESET_EARLY = "reset-early"
    CLOSED_EARLY = "closed-early"
    RESET = "reset"
