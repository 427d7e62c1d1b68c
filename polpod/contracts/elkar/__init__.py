"""The task store of the package `elkar`, twice: in memory, and kept by a polpod."""
