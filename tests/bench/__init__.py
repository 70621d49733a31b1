"""What ipvsca costs: each module is a program that measures one thing and prints ratios."""
