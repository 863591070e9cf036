"""The node agent: which points to record, budgets, clips, status, metrics, HTTP.

    API server ─ watches ─▶ objects ─┬─▶ node_recordings ─ matching ─ reconciler ─▶ points and their rings
                                     └─▶ node_clips ─ clips ─▶ frozen parts
    recorder ─▶ hearing ─▶ both
    both ─ aspects, statuses, reports ─ writes ─▶ API server

`node` puts these together, `agent` gives them threads, timers and a beginning and an end. Must not poll the
API server, nor analyse what is recorded.
"""
