"""Networks of the user's own, named as ``module:function`` or ``file.py:function``."""
