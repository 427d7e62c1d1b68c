"""Carrying out missions: each file is one thing that is done with them, as bodies of the task store."""
