"""The documented commands, the permissions that they need, and who is granted them."""
