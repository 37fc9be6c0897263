"""The web UI: pages rendered here, kept up to date by one stream of events each. docs/ui.md says how to make one."""
