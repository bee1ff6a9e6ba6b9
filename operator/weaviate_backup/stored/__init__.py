"""A backup as it lies in a store: its documents are read, its objects checked and copied. Several programs share it."""
