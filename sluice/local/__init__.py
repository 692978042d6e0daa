"""The local stack: the real functions and the real clients against emulators."""
