"""The schema of the warehouse: definitions, bootstrap, and the changes of tables."""
