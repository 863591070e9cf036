"""The PostgreSQL frontend/backend protocol from the first byte, TLS inside it included."""

from podcam.wire.postgres.messages import (
    Authentication,
    BackendKeyData,
    CancelRequest,
    EncryptionRequest,
    EncryptionResponse,
    ErrorResponse,
    NegotiateProtocolVersion,
    NoticeResponse,
    ParameterStatus,
    PasswordMessage,
    PostgresEvent,
    ReadyForQuery,
    Request,
    StartupMessage,
    Terminate,
    authentication_name,
)
from podcam.wire.postgres.parser import PostgresParser, looks_like_message, looks_like_startup

__all__ = [
    "Authentication",
    "BackendKeyData",
    "CancelRequest",
    "EncryptionRequest",
    "EncryptionResponse",
    "ErrorResponse",
    "NegotiateProtocolVersion",
    "NoticeResponse",
    "ParameterStatus",
    "PasswordMessage",
    "PostgresEvent",
    "PostgresParser",
    "ReadyForQuery",
    "Request",
    "StartupMessage",
    "Terminate",
    "authentication_name",
    "looks_like_message",
    "looks_like_startup",
]
