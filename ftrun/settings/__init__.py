"""From composed YAML to typed settings: what may be set, the checks, and what is near a misspelt word."""
