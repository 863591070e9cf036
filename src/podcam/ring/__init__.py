"""The segment format and its versions, the bounded ring of segments, eviction (pure), freezing.

Owns every byte of a segment; knows nothing of sockets.
"""
