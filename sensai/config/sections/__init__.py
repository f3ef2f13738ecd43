"""The sections of parameters, each declared once: one a stage, in the order of the data flow."""
