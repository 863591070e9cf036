"""Packets for one reader: what an agent serves can be read by nobody on the way, whatever the way is.

The API server takes the caller's name out of what it forwards to a pod, so an agent cannot tell who asks.
It need not: a reader makes a key pair and a `PacketGrant` with the public half, which only packet readers of
a namespace may create, and the agent seals what it serves of that namespace for that key. Whoever else gets
hold of the bytes (another user of the pod proxy, a port-forward, a tap on the node's network) has noise.

The format, `podcam.sealed/1`
    shared  X25519 (RFC 7748) of the agent's private key and the grant's public key, or of the grant's
            private key and the agent's public key. The agent's key is made once per node and published in
            `status.parts[NODE].publicKey` of each clip, which only agents may write. A shared secret of
            zeros (a public key of low order) is refused.
    key     HKDF-SHA256 (RFC 5869), 32 bytes, without salt, from `shared`. Its info is the bytes
            `podcam.sealed/1`, then the agent's public key, the grant's public key, the grant's uid, the
            resource's name and its version, each in UTF-8 (keys: as they are) behind its length, 4 bytes
            big-endian.
    chunks  The plain bytes are cut into chunks of 65,536; the last one holds the rest, 1 to 65,536 bytes,
            or none where there are no plain bytes at all. Each is sealed with AES-256-GCM: the nonce is the
            chunk's number in 12 bytes big-endian, counted from 0; the additional data one byte, 1 for the
            last chunk and 0 for all others; the tag of 16 bytes stands behind the ciphertext.
    sealed  The sealed chunks, one behind the other: 65,552 bytes each but for the last. There is no header,
            so that any range of it can be computed from the same range of the plain bytes.

What is noticed
    A changed bit, a chunk left out, repeated, or in another's place: the tag is one of another number.
    An end cut off, or something added behind it: only the last chunk carries the last chunk's mark.
    A file, version, grant or node in another's place: each has a key of its own.
    The reader gets no byte before the chunk that holds it was found genuine.

Why no nonce is used twice
    AES-GCM breaks where one key and nonce seal two different texts. Here the same chunk is sealed again and
    again (ranges, resumed transfers, an agent that was restarted), so the key has to change when the text
    does. A file's version is its inode, size and time of change in nanoseconds, taken from the open file,
    and compared again after each chunk was read, before it is sealed. Only files of complete clips are
    served: nothing writes to them any more. Should something do so nevertheless, appending changes the
    size, and writing in place the time of change. The file's name, which holds the nanosecond in which the
    segment was begun, tells it from what may get the same inode later. What has no such identity (the
    index, made anew for each request) gets a random version.
    The version travels as the ETag; it says nothing that the sizes and times in a clip's status do not say.

What it does not do
    Sizes and the time of reading can be seen on the way. Whoever gets an agent's private key can read what
    that agent sealed before, if he kept it: he also can read the node's clips themselves. It says nothing
    about who may create grants: RBAC does.
"""

from podcam.sealed.chunks import (
    CHUNK_BYTES,
    SEALED_CHUNK_BYTES,
    Resource,
    Seal,
    Unsealer,
    sealed_range,
    sealed_size,
)
from podcam.sealed.keys import PrivateKey, SealedError, public_key_from_text, public_key_text

__all__ = [
    "CHUNK_BYTES",
    "SEALED_CHUNK_BYTES",
    "PrivateKey",
    "Resource",
    "Seal",
    "SealedError",
    "Unsealer",
    "public_key_from_text",
    "public_key_text",
    "sealed_range",
    "sealed_size",
]
