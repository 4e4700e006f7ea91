"""Pictures: well-known sets, folders, single files, and what is done to them."""
