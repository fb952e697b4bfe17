"""The contract of judges, which say whether an image shows what its prompt asks for."""
