"""The program beside the data: it freezes shards, moves bytes, and puts them back. It knows nothing of Kubernetes."""
