"""ComfyUI nodes of open_imagen. Put this folder into ComfyUI/custom_nodes."""

try:
    from .nodes import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS
except ImportError as error:
    if "open_imagen" not in str(error):
        raise
    raise ImportError(
        "The open_imagen nodes need the package open-imagen in ComfyUI's Python: "
        "pip install -r custom_nodes/comfyui/requirements.txt"
    ) from error

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
