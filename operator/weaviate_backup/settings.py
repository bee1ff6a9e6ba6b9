"""Settings of the programs, read once from the environment in an entry point."""
