"""Weaviate's interfaces: REST, the raft service, and the drivers that cut a consistent set of a shard's files."""
