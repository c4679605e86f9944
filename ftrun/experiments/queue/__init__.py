"""The runs of a sweep as a queue: a driver hands them out and keeps the books, an engine has them made."""
