"""From composed YAML to typed settings: the schema, its checks, and suggestions for misspelt names."""
