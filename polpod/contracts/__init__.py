"""What others' programs expect of a store, on top of this one: each contract is a package or a module here."""
