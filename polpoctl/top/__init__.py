"""`polpoctl top`: the daemon's work on a terminal, live and by keyboard.

Data flows one way: `feed` asks the daemon in threads and posts what it heard; `state` is what there is to see, changed by
that and by keys alone; `paint` makes lines of it; `grid` finds what differs from what the terminal shows; `terminal` says
that.  `loop` joins them.
"""
