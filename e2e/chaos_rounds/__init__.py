"""Rounds of backup and restore while the data changes and parts of the cluster die, drawn from a seed."""
