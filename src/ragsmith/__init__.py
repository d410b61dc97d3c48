"""Train, evaluate and serve retrieval-augmented generation on your own documents, as Kedro pipelines."""

__version__ = "0.1.0"
