"""Kubernetes-native backups for Weaviate: an operator, its agents, and the formats they share."""
