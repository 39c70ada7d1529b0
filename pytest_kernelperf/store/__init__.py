"""
Baseline and run files: read, check, write atomically; and the rules of an update.

Import the module that is needed: `anchor` is light, the others load msgspec.
"""
