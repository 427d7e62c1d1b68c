"""polpod runs long jobs on a build host and does not lose them.  Importing this package imports nothing else."""

__version__ = "0.1.0"
