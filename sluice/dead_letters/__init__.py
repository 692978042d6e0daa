"""Lookup and display of dead letters."""
