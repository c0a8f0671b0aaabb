"""Routes, one idea a file."""
