"""The commands: one module per word, whose `main` takes the arguments after it and returns an exit code."""
