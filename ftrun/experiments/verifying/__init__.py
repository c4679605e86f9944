"""A finished run proved again: its rows, files, scores, answers, its model elsewhere, and that it resumes."""
