"""Object stores: one small protocol, one retry wrapper, one module per kind. Synchronous, as the SDKs are."""
