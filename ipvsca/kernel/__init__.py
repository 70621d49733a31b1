"""Everything that touches the kernel: compile, load, attach, pin, read maps."""
