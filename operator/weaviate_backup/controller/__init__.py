"""The kopf process: observe, decide, perform, write the status."""
