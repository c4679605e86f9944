"""What a network knew before: earlier tasks, how much its weights matter to them, and what is left of it."""
