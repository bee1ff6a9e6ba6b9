"""What we publish to Kubernetes: the custom resources as pydantic models, and the generator of their CRDs."""
