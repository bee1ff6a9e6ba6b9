"""A known set of collections: loaded into a real Weaviate, observed from the outside, and compared before and after."""
