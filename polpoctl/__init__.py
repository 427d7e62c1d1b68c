"""The client: argparse, a blocking socket, rendering; one command a file in `commands/` (DESIGN §10).

It imports `polpod.wire` and `polpod.paths` only.  What `status`, `submit` and `list` load is a promise that a test keeps.
"""
