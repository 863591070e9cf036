"""Kubernetes: the API server's client, watches, Podcam's custom resources as values, from a pod to its namespace.

Stands on the standard library alone. Decides nothing: what to record, keep or report is for the agent, what a
person wants for `kubectl podcam`.
"""
