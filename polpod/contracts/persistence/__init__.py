"""SynthOrg's persistence, on any backend of the store; polpod/persistence.py is where its users find it."""
