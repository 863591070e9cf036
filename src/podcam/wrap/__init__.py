"""Recording in the pod itself: process 1 beside the app, and the recorder that it keeps.

Stands on the standard library alone and imports nothing that analyses: it goes into anybody's image.
"""
