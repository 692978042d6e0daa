"""Deterministic simulation: the real functions on virtual machines, against simulated services, in virtual time.

Everything runs in one thread. Each choice is drawn from a seed: latencies, faults, kills, the order of what happens at
once. So a seed that breaks a promise breaks it again.
"""
