"""What a director puts on the wire: pure code, bytes in and values out, no I/O."""
