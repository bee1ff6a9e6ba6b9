"""The only module that imports kopf: registry, filters, daemons."""
