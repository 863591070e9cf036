"""One file per verb: arguments in, calls out; no logic.

The only room that prints, and the only one that catches `PodcamError`.
"""
