"""Training: the one loop, the losses, the batches, checkpoints that resume exactly, and the gate."""
