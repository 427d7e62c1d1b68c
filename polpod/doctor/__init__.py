"""`polpoctl doctor`: what is wrong with a state directory, its daemon and its host, a line for each thing looked at."""
