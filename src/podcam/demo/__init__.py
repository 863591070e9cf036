"""The story Podcam began with, played for real: PostgreSQL, a proxy that now and then resets, an app.

Uses the other rooms as a user would; nothing imports it but `podcam demo`, the tests and the benchmarks.
"""
