"""The kept packets of a window: manifest, budget, export to pcapng.

Moves no bytes where a hard link will do.
"""
