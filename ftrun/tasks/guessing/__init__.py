"""What a person's file seems to be for: a kind of task and the columns that it reads."""
