"""Run directories: how they are written, locked, read and found, and the ledger of a study."""
