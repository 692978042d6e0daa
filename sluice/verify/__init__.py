"""Checks of a deployment in a real project: what no emulator and no plan of Terraform can show."""
