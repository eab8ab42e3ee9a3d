"""Pictures: reading anything safely, decoding apart, resizing, windows, streaming."""
