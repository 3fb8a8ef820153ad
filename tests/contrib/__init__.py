"""The optional apps."""
