"""What demo, scenarios and benchmark do to the lab's cluster: kubectl, manifests, following an operation, its store."""
