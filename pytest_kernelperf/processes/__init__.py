"""
Fresh processes of a measuring run: which of them a test needs, and how they are started and asked.
"""
