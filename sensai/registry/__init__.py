"""An ensemble as a model that stands alone: `bundle` exports it to ONNX, `pyfunc_model` is the script that serves the bundle
without torch or sensai, `versions` logs and registers both, `promotion` chooses the version that serves.
"""
