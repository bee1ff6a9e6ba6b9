"""Weaviate's two internal gRPC services, as far as we call them: our own definitions and the stubs made from them.

The numbers of fields and enumeration values, and the names of packages, services and methods are Weaviate's; all other
names are ours. Nothing here decides anything. `tests/weaviate/test_protocol_is_current.py` regenerates the stubs.
"""
