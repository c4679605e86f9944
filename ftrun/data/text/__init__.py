"""Text as token ids: encoded once, cut into windows or blocks, paired, masked."""
