"""The files of a model: how they are read, and what is said of damaged ones."""
