"""Where work runs: devices and the precision that each of them is good at."""
