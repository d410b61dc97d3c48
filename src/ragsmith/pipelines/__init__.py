"""The seven pipelines: wiring, thin steps, typed parameters. What they do is in the library packages beside them."""
