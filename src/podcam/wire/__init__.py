"""Sans-IO protocol parsers: link, ip, tcp, dns, tls, postgres. Bytes in, events out.

Packet content never raises: it yields `Malformed`.
"""
