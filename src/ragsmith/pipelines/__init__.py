"""The seven pipelines: wiring, thin steps and typed parameters. What they do is in the library packages beside them."""
