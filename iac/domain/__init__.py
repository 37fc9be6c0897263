"""Decisions, pure: records, the task lifecycle, scheduling, states, plans, redaction. No I/O; time is an argument."""
