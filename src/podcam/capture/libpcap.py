"""A person's own filter expression, compiled by libpcap: pcap-filter(7), pcap_compile(3pcap).

The only part of recording that needs a library. The expression is data: it never passes a shell or an option.
"""

import ctypes
import functools
import re

from podcam.capture.filters import DROP_ALL, Program
from podcam.errors import UsageError

_NAMES = ("libpcap.so.1", "libpcap.so.0.8", "libpcap.so")  # upstream's and most distributions', Debian's
_DLT_EN10MB, _DLT_RAW = 1, 12  # pcap/dlt.h, on Linux
_NETMASK_UNKNOWN = 0xFFFFFFFF
_SNAPLEN = 262144


class _Program(ctypes.Structure):
    _fields_ = (("count", ctypes.c_uint), ("instructions", ctypes.c_void_p))  # struct bpf_program


@functools.lru_cache(maxsize=16)
def compile_expression(expression: str) -> tuple[Program, Program]:
    """Compile for Ethernet frames, and for packets that begin with their IP header.

    An expression that has no meaning without a link header (`ether host …`) matches none of the latter.

    Raises:
        UsageError: libpcap is missing or finds a mistake; or the expression asks for VLAN tags, which Linux
            takes off before a filter sees the packet.
    """
    if re.search(r"\bvlan\b", expression):
        raise UsageError(
            "--bpf: `vlan` never matches, as Linux takes VLAN tags off before the filter: leave it out"
        )
    library = _load()
    ethernet = _compile(library, _DLT_EN10MB, expression)
    if isinstance(ethernet, str):
        raise UsageError(f"--bpf {expression!r}: {ethernet}")
    raw = _compile(library, _DLT_RAW, expression)
    return ethernet, DROP_ALL if isinstance(raw, str) else raw


def _load() -> ctypes.CDLL:
    for name in _NAMES:
        try:
            library = ctypes.CDLL(name)
        except OSError:
            continue
        library.pcap_open_dead.restype = ctypes.c_void_p
        library.pcap_open_dead.argtypes = (ctypes.c_int, ctypes.c_int)
        library.pcap_compile.argtypes = (
            ctypes.c_void_p,
            ctypes.POINTER(_Program),
            ctypes.c_char_p,
            ctypes.c_int,
            ctypes.c_uint32,
        )
        library.pcap_geterr.restype = ctypes.c_char_p
        library.pcap_geterr.argtypes = (ctypes.c_void_p,)
        library.pcap_freecode.argtypes = (ctypes.POINTER(_Program),)
        library.pcap_close.argtypes = (ctypes.c_void_p,)
        return library
    raise UsageError(
        "--bpf needs libpcap (Debian, Ubuntu: apt-get install libpcap0.8); --host and --port do not"
    )


def _compile(library: ctypes.CDLL, link_type: int, expression: str) -> Program | str:
    """Return the program, or what libpcap says is wrong."""
    handle = library.pcap_open_dead(link_type, _SNAPLEN)
    if not handle:
        raise MemoryError("pcap_open_dead")
    compiled = _Program()
    try:
        text = expression.encode()
        if library.pcap_compile(handle, ctypes.byref(compiled), text, 1, _NETMASK_UNKNOWN) < 0:
            message: bytes = library.pcap_geterr(handle)
            return message.decode(errors="replace")
        # struct bpf_insn has the layout of struct sock_filter: 8 bytes.
        program = Program.unpack(ctypes.string_at(compiled.instructions or 0, 8 * compiled.count))
        library.pcap_freecode(ctypes.byref(compiled))
        return program
    finally:
        library.pcap_close(handle)
