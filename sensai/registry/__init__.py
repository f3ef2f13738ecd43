"""An ensemble as a self-contained model.

`bundle` exports it to ONNX. `pyfunc_model` is the script that serves the bundle without torch or sensai. `versions` logs
and registers both. `promotion` selects the version that serves.
"""
