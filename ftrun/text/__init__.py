"""Text as token ids: encoded once, cut into windows or blocks, hidden in part, written on."""
