"""Documents, passages and splits: everything between a source and the first table of passages."""
