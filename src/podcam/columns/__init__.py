"""Captures to columns to connections: one row per packet, decoded by compiled kernels.

Knows formats and TCP, and no opinion about what went wrong.
"""
