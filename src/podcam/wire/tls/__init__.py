"""TLS at the record level: what can be seen without keys, and nothing more."""

from podcam.wire.tls.messages import (
    Alert,
    ChangeCipherSpec,
    ClientHello,
    EncryptedRecord,
    HandshakeComplete,
    HandshakeMessage,
    RecordRole,
    ServerHello,
    TlsEvent,
    alert_name,
    version_name,
)
from podcam.wire.tls.parser import TlsParser, looks_like_client_hello, looks_like_record

__all__ = [
    "Alert",
    "ChangeCipherSpec",
    "ClientHello",
    "EncryptedRecord",
    "HandshakeComplete",
    "HandshakeMessage",
    "RecordRole",
    "ServerHello",
    "TlsEvent",
    "TlsParser",
    "alert_name",
    "looks_like_client_hello",
    "looks_like_record",
    "version_name",
]
