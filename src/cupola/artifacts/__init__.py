"""Stored values: typed values to manifests and content-addressed blobs, and back."""
