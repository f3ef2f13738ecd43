"""An ensemble as a self-contained model.

`bundle` exports it to ONNX. `bundle_reader` reads and runs the bundle without torch, and `pyfunc_model` makes that a model of
MLflow. `versions` logs and registers them. `promotion` selects the version that serves.
"""
