"""The scripts behind the figures and tables of the documents, and the results that they read."""
