"""
Proves the gate on this machine: fresh processes, unchanged and slowed, judged by the gate's rule.
"""
