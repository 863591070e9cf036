"""Frozen values and ids that every room shares. Imports no room, no socket, no clock, no file."""
