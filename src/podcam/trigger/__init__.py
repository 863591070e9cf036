"""The wire detector and the cooldown: (event, now) to decision.

Pure: no sockets, clocks or files; time comes in as an argument.
"""
