"""Ask a language model behind an OpenAI-compatible endpoint: on this machine, in the house, or hosted."""
