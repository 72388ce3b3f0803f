"""French→English neural machine translation: three generations of one idea behind one switch."""

__version__ = "0.1.0"
