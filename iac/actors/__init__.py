"""Thin Trio shells around the domain: functions that get channels and callables."""
