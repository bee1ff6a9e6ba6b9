"""The command line: starts the operator or an agent. The only place that knows both."""
