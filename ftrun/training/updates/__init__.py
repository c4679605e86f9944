"""What becomes of the weights beside a plain step: averages of them, and what an optimizer keeps."""
