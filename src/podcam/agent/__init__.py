"""The node agent: which points to record, budgets, clips, status, metrics, HTTP."""
