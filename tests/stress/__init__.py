"""More than a server should have to stand: floods of forged packets; replacement and sudden death in traffic."""
