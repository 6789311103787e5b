"""Materializers for values that need no library: plain values, bytes, files and folders."""
