"""Fakes of Google's services on the network, for tests and benchmarks.

One HTTP server and one reading of the APIs' requests serve two fakes: `scripted`, whose answers a test chooses, and
`metered`, which answers as services of limited capacity do and counts what it was sent.
"""
