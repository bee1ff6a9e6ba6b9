"""The operator's side of the session contract (`core.session`): HTTPS with mutual TLS to one agent."""
