"""What lies beside a saved network: the checkpoint below its adapters, and how plain libraries use it."""
