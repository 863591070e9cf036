"""One or many points: their writer, wire detector, control socket and freezing.

Stands on the standard library alone and imports nothing that analyses.
"""
