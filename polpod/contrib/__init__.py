"""Ready to be plugged into other packages, which polpod itself does not need."""
