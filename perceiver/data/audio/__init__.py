"""Sound: files, folders, tables of recordings, and well-known sets."""
