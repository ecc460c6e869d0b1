"""`make demo`: a scanner, a node and an archive on this machine, from C-STORE to the picture."""
