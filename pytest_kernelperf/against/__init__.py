"""
The working tree compared with a git revision: its checkout, its processes, their pairs.
"""
