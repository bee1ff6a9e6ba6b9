"""The demo: a journey through one backup and one restore, shown to a person and written as a report."""
