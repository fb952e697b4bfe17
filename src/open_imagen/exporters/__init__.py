"""Models for other people's tools: diffusers folders, ONNX files, repositories on the hub."""
