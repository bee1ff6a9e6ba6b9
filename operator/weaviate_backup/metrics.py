"""Prometheus metrics of the operator and the agent."""
