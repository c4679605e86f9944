"""What runs get wrong, row by row, and the labels that their answers contradict."""
