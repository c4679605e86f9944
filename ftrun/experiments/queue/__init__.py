"""The runs of a sweep as a queue: one driver hands them out, an engine has them made, the driver alone keeps the books."""
