"""A real three-node Kubernetes, with real stores and a real Weaviate, in one sandbox on this machine."""
