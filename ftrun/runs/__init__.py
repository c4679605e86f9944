"""Run directories: how they are written, held, read and found, and the ledger of a study."""
