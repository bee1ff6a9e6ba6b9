"""Decisions: topology, plans, the session contract, the machines. Values in, values out; no I/O and no clock."""
