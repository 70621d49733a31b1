"""Tests of the BPF programs, run by BPF_PROG_TEST_RUN: nothing is attached anywhere."""
