"""What daemon and clients say to each other (DESIGN §9): framing, envelope, error codes, method names.

No I/O and no JSON codec of its own, standard library only, and cheap to import: polpoctl loads it at each start.
"""
