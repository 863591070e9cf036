"""Rules: a pure function from a connection to a verdict, with the frames that prove it.

Opens no file: `columns` hands it connections.
"""
