"""The program `kubectl weaviate-backup`: what people do with backups from where they sit. It runs with their rights."""
