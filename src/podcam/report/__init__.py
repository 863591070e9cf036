"""Diagnosis to view model (pure), then terminal, JSON and annotated pcapng.

Decides nothing: what it shows is in the diagnosis.
"""
