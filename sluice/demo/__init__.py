"""The demo: publishes the events of a simulated shop to the local stack and checks that none is lost."""
