"""The tests on the kernels that operators run: Debian's, booted under qemu with this machine's file system."""
