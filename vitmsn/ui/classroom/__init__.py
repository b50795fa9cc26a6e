"""Class mode, only with --share-local: phones of the local network play one challenge, a projector shows the board."""
