"""The kernel: network namespaces, packet sockets and their rings, filters, interfaces.

The only room that opens packet sockets; writes no files.
"""
