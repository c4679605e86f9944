"""What is wrong with a run: learned nothing, underfits, overfits, is too sure, forgot; and what to try."""
