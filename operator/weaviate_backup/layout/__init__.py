"""Weaviate's backup format and our manifests: keys, descriptors, chunk streams, integrity. Bytes and names only."""
