"""The console: web pages that show the stream, the failures and the warehouse of a deployment or the local stack."""
