"""Podcam: a dashcam for the network of your pods."""

__version__ = "0.1.0"
