"""Talks to the Kubernetes API: the only home of the client."""
