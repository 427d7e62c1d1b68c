"""What polpoctl does to a state directory without a daemon, or beside one: `polpod --maintenance VERB` (DESIGN §4)."""
