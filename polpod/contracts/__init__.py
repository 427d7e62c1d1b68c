"""What other programs hold on to: the interfaces of their contract pages, on top of the store."""
