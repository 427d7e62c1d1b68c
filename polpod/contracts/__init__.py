"""The interfaces that other programs know, on top of the store."""
